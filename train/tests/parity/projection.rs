//! The projection of I2P-MAE against its released code: depth images of a cloud, and features of them at its points.

use tap_train::model::image::Normalization;
use tap_train::ops::{DepthView, depth_images, depth_positions, sample_bicubic};
use tch::{Kind, Tensor};

use crate::reference::{Folder, compare, record, values};

/// Relative to the length of a feature; the reference resizes a whole map.
const SAMPLED: f64 = 1e-6;
/// Of the back-projections every so-manieth point is stored.
const STRIDE: i64 = 8;
/// Of a normalized pixel: what the last place of its logistic function makes.
const LAST_PLACE: f64 = 3e-7;

#[test]
fn i2p_mae_projection() {
    let run = Folder::open().run("pure");
    let Some(points) = run.get("i2p.pts") else { return };
    let cloud: Vec<[f32; 3]> = values(points)
        .as_chunks::<3>()
        .0
        .iter()
        .map(|point| point.map(|x| x as f32))
        .collect();
    let images = depth_images(points).flatten(0, 1).unsqueeze(1);
    let images = Normalization::IMAGENET.apply(&images);
    let (maps, positions) = (run.need("i2p.feat"), depth_positions(points));
    let maps = maps
        .permute([0, 2, 3, 1])
        .unsqueeze(1)
        .expand([-1, 3, -1, -1, -1], false);
    let sampled = sample_bicubic(&maps, &positions);
    for (view, grid) in DepthView::of(&cloud).into_iter().enumerate() {
        let numbers = [
            grid.min[0],
            grid.min[1],
            grid.step,
            grid.offset[0],
            grid.offset[1],
        ];
        compare(
            &run,
            &format!("i2p.grid{view}"),
            &Tensor::from_slice(&numbers),
            0.0,
        );
        let name = format!("i2p.img{view}_ch0");
        if let Some(expected) = run.get(&name) {
            // The logistic function may round the last bit in another way on another processor.
            let difference = images.get(view as i64).get(0) - expected;
            let worst = difference.abs().max().to_kind(Kind::Double).double_value(&[]);
            record(&run, &name, worst, LAST_PLACE);
        }
        let back = sampled.select(1, view as i64).slice(1, 0, None, STRIDE);
        compare(&run, &format!("i2p.back{view}"), &back.contiguous(), SAMPLED);
    }
}
