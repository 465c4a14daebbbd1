//! Depth images of a cloud along three axes, and where its points lie in them, as I2P-MAE makes them
//! (`docs/method.md`, "Projection of I2P-MAE").

use rayon::prelude::*;
use tch::{Device, Kind, Tensor, no_grad};

use super::plane::{prepared, size3};

/// Pixels along a side of a depth image.
pub const DEPTH_SIZE_PX: usize = 224;
/// Views of a cloud.
pub const NUM_DEPTH_VIEWS: usize = 3;
/// The axes of an object that are the rows, the columns and the depth of each image.
const AXES: [[usize; 3]; NUM_DEPTH_VIEWS] = [[0, 1, 2], [2, 0, 1], [1, 2, 0]];
/// A point covers its pixel and so many to each side.
const SPLAT_RADIUS_PX: i64 = 2;
/// Pixels that the longer side of a cloud leaves free.
const MARGIN_PX: f32 = 3.0;
/// `embedding_bag`'s number for sums.
const BAG_SUM: i64 = 0;
/// Known pixels along an axis that a bicubic value is made of.
const NUM_TAPS: i64 = 4;
/// The free coefficient of the cubic, as in `PyTorch`.
const CUBIC: f64 = -0.75;

/// Where the points of a cloud lie in one of its depth images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DepthView {
    /// Axes of rows, columns and depth.
    axes: [usize; 3],
    /// Smallest coordinates along rows and columns.
    pub min: [f32; 2],
    /// Object units a pixel.
    pub step: f32,
    /// Pixels by which the cloud is moved to the middle of the image, rows and columns.
    pub offset: [f32; 2],
}

impl DepthView {
    /// The views of a cloud; that of no points is as good as any.
    #[must_use]
    pub fn of(points: &[[f32; 3]]) -> [Self; NUM_DEPTH_VIEWS] {
        AXES.map(|axes| Self::along(axes, points))
    }

    fn along(axes: [usize; 3], points: &[[f32; 3]]) -> Self {
        let bounds = |axis: usize| {
            let coordinates = points.iter().map(|point| point[axis]);
            coordinates.fold((f32::INFINITY, f32::NEG_INFINITY), |(min, max), x| {
                (min.min(x), max.max(x))
            })
        };
        let [rows, columns] = [bounds(axes[0]), bounds(axes[1])];
        let range = f32::max(rows.1 - rows.0, columns.1 - columns.0);
        // A cloud in one place has no range.
        let step = (range / (DEPTH_SIZE_PX as f32 - MARGIN_PX)).max(f32::MIN_POSITIVE);
        let radius = SPLAT_RADIUS_PX as f32;
        let offset = [rows, columns].map(|(min, max)| {
            let last = ((max - min) / step).floor();
            // Of the first and the last pixel that a splat covers.
            let middle = f32::midpoint(last + radius + 1.0, 1.0 - radius).floor();
            DEPTH_SIZE_PX as f32 / 2.0 - middle - 1.0
        });
        Self {
            axes,
            min: [rows.0, columns.0],
            step,
            offset,
        }
    }

    /// The coordinates of a point along rows, columns and depth.
    #[must_use]
    pub fn coordinates(&self, point: &[f32; 3]) -> [f32; 3] {
        self.axes.map(|axis| point[axis])
    }

    /// Row and column of the pixel of a point, which should be one of the cloud.
    #[must_use]
    pub fn pixel(&self, point: &[f32; 3]) -> [i64; 2] {
        [0, 1].map(|axis| {
            let place = ((point[self.axes[axis]] - self.min[axis]) / self.step).floor();
            (place + 1.0 + self.offset[axis]) as i64
        })
    }

    /// Adds the depths of the points to the pixels that they cover, row by row.
    ///
    /// Parity: depths are summed, whatever their sign; nothing hides anything. A pixel beyond an edge is that at the edge.
    fn splat(&self, points: &[[f32; 3]], image: &mut [f32]) {
        let last = DEPTH_SIZE_PX as i64 - 1;
        for point in points {
            let [row, column] = self.pixel(point);
            for row in row - SPLAT_RADIUS_PX..=row + SPLAT_RADIUS_PX {
                let row = row.clamp(0, last) as usize * DEPTH_SIZE_PX;
                for column in column - SPLAT_RADIUS_PX..=column + SPLAT_RADIUS_PX {
                    image[row + column.clamp(0, last) as usize] += point[self.axes[2]];
                }
            }
        }
    }
}

/// Rows and columns of a pixel's center as parts of the image's height and width.
#[must_use]
pub fn position_of_pixel(pixel: [i64; 2]) -> [f32; 2] {
    pixel.map(|place| (place as f32 + 0.5) / DEPTH_SIZE_PX as f32)
}

/// The depth images of a cloud, one after the other: 0.5 where nothing is, and the logistic function of the sum of depths
/// elsewhere.
///
/// # Shapes
/// - `xyz`: B,N,3
/// - returns B,3,224,224, on the same device
///
/// Summed on the CPU and in the order of the points on any device, so that a picture is a function of its cloud.
pub fn depth_images(xyz: &Tensor) -> Tensor {
    let clouds = clouds(xyz);
    let num_pixels = DEPTH_SIZE_PX * DEPTH_SIZE_PX;
    let mut images = vec![0.0_f32; clouds.len() * NUM_DEPTH_VIEWS * num_pixels];
    images
        .par_chunks_mut(num_pixels)
        .enumerate()
        .for_each(|(place, image)| {
            let points = &clouds[place / NUM_DEPTH_VIEWS];
            DepthView::along(AXES[place % NUM_DEPTH_VIEWS], points).splat(points, image);
        });
    let size = DEPTH_SIZE_PX as i64;
    no_grad(|| {
        Tensor::from_slice(&images)
            .view([-1, NUM_DEPTH_VIEWS as i64, size, size])
            .to_device(xyz.device())
            .sigmoid()
    })
}

/// Where the points lie in the depth images: rows and columns of the centers of their pixels, as parts of the image.
///
/// # Shapes
/// - `xyz`: B,N,3
/// - returns B,3,N,2, on the same device
pub fn depth_positions(xyz: &Tensor) -> Tensor {
    let positions: Vec<f32> = clouds(xyz)
        .par_iter()
        .flat_map_iter(|points| {
            let views = DepthView::of(points).into_iter();
            views.flat_map(|view| {
                let position = move |point| position_of_pixel(view.pixel(point));
                points.iter().flat_map(position)
            })
        })
        .collect();
    let (batch, num_points, _) = size3(xyz);
    Tensor::from_slice(&positions)
        .view([batch, NUM_DEPTH_VIEWS as i64, num_points, 2])
        .to_device(xyz.device())
}

/// Values of maps between their pixels, by bicubic interpolation as `PyTorch` resizes images (`align_corners` false).
///
/// To resize a map and to take some pixels of the result gives the same numbers; this makes only those.
///
/// # Shapes
/// - `maps`: B,V,h,w,C
/// - `positions`: B,V,M,2, rows and columns as parts of the height and width
/// - returns B,V,M,C
pub fn sample_bicubic(maps: &Tensor, positions: &Tensor) -> Tensor {
    let size = maps.size();
    let [batch, views, height, width, channels] = size[..] else {
        unreachable!("maps are B,V,h,w,C")
    };
    let num_positions = positions.size()[2];
    let (index, weights) = no_grad(|| {
        let (rows, of_rows) = taps(&positions.select(3, 0), height, maps.kind());
        let (columns, of_columns) = taps(&positions.select(3, 1), width, maps.kind());
        let maps_before = Tensor::arange(batch * views, (Kind::Int64, maps.device())) * (height * width);
        let index =
            (rows * width).unsqueeze(4) + columns.unsqueeze(3) + maps_before.view([batch, views, 1, 1, 1]);
        (index, of_rows.unsqueeze(4) * of_columns.unsqueeze(3))
    });
    let num_bags = batch * views * num_positions;
    let taps_of_bag = NUM_TAPS * NUM_TAPS;
    let starts = Tensor::arange(num_bags, (Kind::Int64, maps.device())) * taps_of_bag;
    let (sums, ..) = Tensor::embedding_bag(
        &maps.reshape([-1, channels]),
        &index.reshape([-1]),
        &starts,
        false,
        BAG_SUM,
        false,
        Some(&weights.reshape([-1])),
        false,
    );
    sums.view([batch, views, num_positions, channels])
}

/// The four known pixels around each position along an axis of `length` pixels, those at the edges repeated, and their
/// weights.
///
/// # Shapes
/// - `positions`: B,V,M
/// - returns B,V,M,4 twice
fn taps(positions: &Tensor, length: i64, kind: Kind) -> (Tensor, Tensor) {
    let place = positions.to_kind(kind) * length as f64 - 0.5;
    let first = place.floor();
    let t = (place - &first).unsqueeze(3);
    let near = |x: &Tensor| (x * (CUBIC + 2.0) - (CUBIC + 3.0)) * x * x + 1.0;
    let far = |x: &Tensor| ((x * CUBIC - 5.0 * CUBIC) * x + 8.0 * CUBIC) * x - 4.0 * CUBIC;
    let from_end = 1.0 - &t;
    let weights = Tensor::cat(
        &[
            far(&(&t + 1.0)),
            near(&t),
            near(&from_end),
            far(&(&from_end + 1.0)),
        ],
        3,
    );
    let around = Tensor::from_slice(&[-1_i64, 0, 1, 2]).to_device(positions.device());
    let index = (first.to_kind(Kind::Int64).unsqueeze(3) + around).clamp(0, length - 1);
    (index, weights)
}

/// The coordinates of each cloud in main memory.
fn clouds(xyz: &Tensor) -> Vec<Vec<[f32; 3]>> {
    let (_, num_points, _) = size3(xyz);
    let flat = prepared(xyz).to_device(Device::Cpu).contiguous();
    let mut numbers = vec![0.0_f32; flat.numel()];
    flat.copy_data(&mut numbers, flat.numel());
    let points = numbers.as_chunks::<3>().0;
    let cloud_len = (num_points as usize).max(1);
    points.chunks(cloud_len).map(<[_]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::super::plane::tests::cloud;
    use super::*;

    #[test]
    fn a_pixel_has_the_sum_of_the_depths_that_cover_it() {
        // A pixel is as wide as one unit.
        let points = [[0.0, 0.0, 0.25], [221.0, 0.5, -0.5], [221.0, 0.5, -0.5]];
        let xyz = Tensor::from_slice(&points.concat()).view([1, 3, 3]);
        let images = depth_images(&xyz);
        assert_eq!(images.size(), [1, 3, 224, 224], "three views");
        let sums = images.logit(None).get(0).get(0);
        let [first, second] = [&points[0], &points[1]].map(|point| DepthView::of(&points)[0].pixel(point));
        let at = |[row, column]: [i64; 2]| sums.double_value(&[row, column]);
        assert!((at(first) - 0.25).abs() < 1e-6, "one point: {}", at(first));
        assert!((at(second) + 1.0).abs() < 1e-6, "two points: {}", at(second));
        assert_eq!(second[0] - first[0], 221, "the longer side fills the image");
        let covered = sums.abs().gt(1e-6).sum(Kind::Int64).int64_value(&[]);
        assert_eq!(
            covered, 40,
            "two windows of five by five pixels, whose outermost rows are beyond the edges"
        );
        assert!(
            (at([first[0] - 1, first[1]]) - 0.5).abs() < 1e-6,
            "what is beyond counts to the edge"
        );
    }

    #[test]
    fn every_cloud_lies_in_its_images() {
        let flat = cloud(1, 64, 3) * Tensor::from_slice(&[1.0_f32, 0.0, 0.3]);
        let place = Tensor::full([1, 5, 3], 0.7, (Kind::Float, Device::Cpu));
        let line = Tensor::linspace(0.0, 1.0, 7, (Kind::Float, Device::Cpu));
        let line = Tensor::stack(&[&line, &line, &(&line * -2.0)], 1).unsqueeze(0);
        for xyz in [flat, place, line] {
            let positions = depth_positions(&xyz);
            let (low, high) = (positions.min(), positions.max());
            assert!(
                low.double_value(&[]) > 0.0 && high.double_value(&[]) < 1.0,
                "{low} to {high}"
            );
            let images = depth_images(&xyz);
            assert_eq!(images.isfinite().all().int64_value(&[]), 1, "finite");
        }
    }

    #[test]
    fn sampled_values_are_those_of_a_resized_map() {
        tch::manual_seed(1);
        for side in [14, 16, 7] {
            let maps = Tensor::randn([2, 3, side, side, 5], (Kind::Float, Device::Cpu));
            let pixels = Tensor::randint(224, [2, 3, 200, 2], (Kind::Int64, Device::Cpu));
            let positions = (pixels.to_kind(Kind::Float) + 0.5) / 224.0;
            let got = sample_bicubic(&maps, &positions);
            let resized = maps
                .flatten(0, 1)
                .permute([0, 3, 1, 2])
                .upsample_bicubic2d([224, 224], false, None, None)
                .flatten(2, 3);
            let flat = (pixels.select(3, 0) * 224 + pixels.select(3, 1)).view([6, 1, 200]);
            let expected = resized.gather(2, &flat.expand([6, 5, 200], false), false);
            let expected = expected.transpose(1, 2).reshape([2, 3, 200, 5]);
            assert!(
                got.allclose(&expected, 1e-5, 1e-5, false),
                "{side}: {}",
                (got - expected).abs().max()
            );
        }
    }
}
