//! Small images of clouds, for the log.

use tch::{Device, Tensor};

use crate::data::batch::Batch;
use crate::model::{Groups, HierarchicalAutoencoder, Mode, MultiScaleMask};
use crate::run::image_grid::ImageGrid;

/// Pixels along a side of an image.
const SIZE_PX: usize = 96;
/// Pixels along a side of a point.
const POINT_PX: usize = 2;
/// Grays of the background, of the nearest points, and of those farthest away.
const BACKGROUND: u8 = 255;
const NEAR: f32 = 0.0;
const FAR: f32 = 200.0;
/// Where the viewer stands.
const AZIMUTH_RAD: f32 = std::f32::consts::FRAC_PI_6;
const ELEVATION_RAD: f32 = std::f32::consts::FRAC_PI_6;

/// Rows of clouds.
///
/// # Shapes
/// - `rows`: N,3 each, N may differ
pub(in crate::method) fn cloud_grid(rows: &[Vec<Tensor>]) -> ImageGrid {
    let images: Vec<Vec<Vec<u8>>> = rows
        .iter()
        .map(|row| row.iter().map(|cloud| draw(&points(cloud))).collect())
        .collect();
    let rows: Vec<Vec<&[u8]>> = images
        .iter()
        .map(|row| row.iter().map(Vec::as_slice).collect())
        .collect();
    ImageGrid::grid(SIZE_PX, &rows)
}

/// For each object the cloud, its visible groups, and all groups with those reconstructed that were masked.
pub(in crate::method) fn hierarchy_grid(
    autoencoder: &HierarchicalAutoencoder,
    batch: &Batch,
    groups: &[Groups],
    mask: &MultiScaleMask,
) -> ImageGrid {
    const LEVEL: usize = HierarchicalAutoencoder::RECONSTRUCTED;
    let points = autoencoder.reconstruct(groups, mask, Mode::EVAL);
    let Groups {
        centers,
        points: truth,
        ..
    } = &groups[LEVEL];
    let whole = truth.flatten(0, 1).index_copy(0, &mask.masked(LEVEL), &points);
    let [truth, whole] = [truth, &whole.view_as(truth)].map(|points| points + centers.unsqueeze(2));
    let row = |object: i64| {
        let visible = mask.visible[LEVEL].get(object).nonzero().squeeze_dim(1);
        let visible = truth.get(object).index_select(0, &visible);
        let whole = whole.get(object);
        vec![
            batch.cloud.xyz.get(object),
            visible.flatten(0, 1),
            whole.flatten(0, 1),
        ]
    };
    let rows: Vec<Vec<Tensor>> = (0..batch.len() as i64).map(row).collect();
    cloud_grid(&rows)
}

/// # Shapes
/// - `xyz`: N,3
fn points(xyz: &Tensor) -> Vec<[f32; 3]> {
    let mut flat = vec![0.0_f32; xyz.numel()];
    let len = flat.len();
    xyz.to_device(Device::Cpu).contiguous().copy_data(&mut flat, len);
    flat.as_chunks::<3>().0.to_vec()
}

/// Orthographic, the unit sphere filling the frame; nearer points are darker and cover those behind them.
fn draw(points: &[[f32; 3]]) -> Vec<u8> {
    let ((sin_a, cos_a), (sin_e, cos_e)) = (AZIMUTH_RAD.sin_cos(), ELEVATION_RAD.sin_cos());
    let view_from_object = [
        [cos_a, 0.0, -sin_a],
        [-sin_a * sin_e, cos_e, -cos_a * sin_e],
        [sin_a * cos_e, sin_e, cos_a * cos_e],
    ];
    let mut in_view: Vec<[f32; 3]> = points
        .iter()
        .map(|point| view_from_object.map(|row| row.iter().zip(point).map(|(a, b)| a * b).sum()))
        .collect();
    in_view.sort_by(|a, b| a[2].total_cmp(&b[2]));
    let mut pixels = vec![BACKGROUND; SIZE_PX * SIZE_PX];
    for [x, y, depth] in in_view {
        let nearness = f32::midpoint(depth, 1.0).clamp(0.0, 1.0);
        let gray = (FAR + (NEAR - FAR) * nearness) as u8;
        let place = |along: f32| f32::midpoint(along, 1.0) * (SIZE_PX - POINT_PX) as f32;
        // Negative numbers become 0: a point outside lies at the border.
        let (left, top) = (place(x) as usize, place(-y) as usize);
        let within = |first: usize| first.min(SIZE_PX - POINT_PX);
        for row in within(top)..within(top) + POINT_PX {
            let start = row * SIZE_PX + within(left);
            pixels[start..start + POINT_PX].fill(gray);
        }
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_is_up_and_near_points_cover_far_ones() {
        let at = |pixels: &[u8], row: usize, column: usize| pixels[row * SIZE_PX + column];
        let top = draw(&[[0.0, 0.9, 0.0]]);
        let row = top
            .iter()
            .position(|&gray| gray != BACKGROUND)
            .map(|place| place / SIZE_PX);
        assert!(row.is_some_and(|row| row < SIZE_PX / 4), "{row:?}");
        let (sin, cos) = (ELEVATION_RAD.sin(), ELEVATION_RAD.cos());
        let toward = [AZIMUTH_RAD.sin() * cos, sin, AZIMUTH_RAD.cos() * cos];
        let (near, far) = (toward.map(|x| 0.5 * x), toward.map(|x| -0.5 * x));
        for points in [[near, far], [far, near]] {
            let middle = at(&draw(&points), SIZE_PX / 2, SIZE_PX / 2);
            assert_eq!(middle, 50, "a quarter of the way from black to gray");
        }
        let outside = draw(&[[9.0, -9.0, 0.0]]);
        assert_eq!(
            outside.iter().filter(|&&gray| gray != BACKGROUND).count(),
            4,
            "one point"
        );
    }

    #[test]
    fn a_row_shows_the_clouds_of_one_object() {
        let cloud = |num: i64| Tensor::zeros([num, 3], (tch::Kind::Float, Device::Cpu));
        let grid = cloud_grid(&[vec![cloud(5), cloud(3)], vec![cloud(5), cloud(2)]]);
        assert_eq!(
            (grid.width_px, grid.height_px),
            (2 * 98 + 2, 2 * 98 + 2),
            "two columns and two rows"
        );
    }
}
