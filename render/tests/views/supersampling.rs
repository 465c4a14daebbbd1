//! More than four samples per pixel.

use glam::DVec3;
use tap_render::{Mesh, RenderRecipe};

use crate::{centered, renderers};

/// A bar of an eighth of a pixel, which four samples per pixel see in dots.
#[test]
fn a_thin_bar_is_whole_with_more_samples() {
    let corners = [[0.0, 0.0], [1.0, 0.3], [1.0, 0.302], [0.0, 0.002]];
    let positions = corners.map(|[x, y]| DVec3::new(x, y, 0.0));
    let mesh = Mesh::try_new(&positions, vec![[0, 1, 2], [0, 2, 3]], None).unwrap();
    let mut masks = Vec::new();
    for mut renderer in renderers() {
        let mut columns_with = |samples: u32| {
            let recipe = RenderRecipe {
                rig: "poses:0/0".parse().unwrap(),
                size_px: 64,
                samples,
                ..RenderRecipe::default()
            };
            let view = renderer
                .render(&mesh, &centered(&mesh), &recipe)
                .unwrap()
                .remove(0);
            let mask = view.mask.unwrap();
            let num_columns = (0..64)
                .filter(|x| (0..64).any(|y| mask.is_covered(*x, y)))
                .count();
            let darkest = view
                .color
                .unwrap()
                .to_rgb()
                .iter()
                .map(|color| color[0])
                .min()
                .unwrap();
            masks.push(mask);
            (num_columns, darkest)
        };
        let [(dotted, dark), _, (whole, gray)] = [4, 16, 64].map(&mut columns_with);
        assert!(dotted < 56 && whole >= 58, "{dotted} columns of 64, then {whole}");
        assert!(gray > dark, "it covers little of a pixel: {gray}, not {dark}");
    }
    for samples_idx in 0..3 {
        assert_eq!(masks[samples_idx], masks[3 + samples_idx], "both backends");
    }
}
