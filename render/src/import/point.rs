//! Point clouds from rows of numbers, for the formats without column names.
//!
//! The first three columns are the position. The others are recognized by their values: three that are unit vectors in
//! every row are normals, three from 0 to 1 or three integers up to 255 are colors; anything else (intensities, labels)
//! is ignored.

use glam::{DVec3, Vec3};

use super::{ImportError, color};
use crate::mesh::{MeshError, PointCloud};

/// Columns that are considered: position, normal, color, and one intensity or label in between.
pub(super) const MAX_COLUMNS: usize = 10;
/// Rows that the columns are recognized from.
const NUM_SAMPLES: usize = 1000;
/// Tolerance of a normal's length, for rounding in the file.
const UNIT_TOLERANCE: f64 = 0.02;

/// Largest channel of colors from 0 to 1: rounding may make it a little more than 1.
const BRIGHTEST: f64 = 1.01;

/// A row, padded with zeros.
pub(super) type Row = [f64; MAX_COLUMNS];

/// First columns of normals and colors.
#[derive(Debug, Default, PartialEq)]
struct Columns {
    normal: Option<usize>,
    color: Option<usize>,
}

impl Columns {
    /// `intensity_first`: scanner formats have an intensity before the color.
    fn guess(samples: &[Row], num_columns: usize, intensity_first: bool) -> Self {
        let triples = |at: usize| {
            let rows = if at + 3 <= num_columns { samples } else { &[] };
            rows.iter().map(move |row| [row[at], row[at + 1], row[at + 2]])
        };
        let is_normal = |at: usize| {
            let is_unit = |triple: [f64; 3]| (DVec3::from(triple).length() - 1.0).abs() < UNIT_TOLERANCE;
            triples(at).len() > 0 && triples(at).all(is_unit)
        };
        let is_color = |at: usize| {
            let all = |fits: fn(f64) -> bool| triples(at).flatten().all(fits);
            triples(at).len() > 0
                && (all(|channel| (0.0..=BRIGHTEST).contains(&channel))
                    || all(|channel| (0.0..=255.0).contains(&channel) && channel.fract() == 0.0))
        };
        let after = if intensity_first { [4, 3] } else { [3, 4] };
        let normal = [3, 6, 7].into_iter().find(|&at| is_normal(at));
        let color = match normal {
            Some(3) => [6, 7].into_iter().find(|&at| is_color(at)),
            _ => after.into_iter().find(|&at| is_color(at)),
        };
        Self { normal, color }
    }
}

/// Reads all rows, and the first ones twice.
pub(super) fn read<I>(
    rows: impl Fn() -> I,
    num_columns: usize,
    intensity_first: bool,
    reads_colors: bool,
) -> Result<PointCloud, ImportError>
where
    I: Iterator<Item = Result<Row, ImportError>>,
{
    let samples = rows().take(NUM_SAMPLES).collect::<Result<Vec<Row>, _>>()?;
    let columns = Columns::guess(&samples, num_columns, intensity_first);
    let (mut positions, mut normals, mut colors) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows() {
        let row = row?;
        let triple = |at: usize| [row[at], row[at + 1], row[at + 2]];
        positions.push(DVec3::from(triple(0)));
        if let Some(at) = columns.normal {
            normals.push(DVec3::from(triple(at)).as_vec3());
        }
        if let Some(at) = columns.color.filter(|_| reads_colors) {
            colors.push(triple(at).map(|channel| channel as f32));
        }
    }
    Ok(cloud(positions, normals, &colors)?)
}

/// `colors` are in the file's range.
pub(super) fn cloud(
    positions: Vec<DVec3>,
    normals: Vec<Vec3>,
    colors: &[[f32; 3]],
) -> Result<PointCloud, MeshError> {
    PointCloud::try_new(positions, normals, color::bytes_of_colors(colors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_recognized_by_their_values() {
        let guess = |row: &[f64], intensity_first: bool| {
            let mut padded = [0.0; MAX_COLUMNS];
            padded[..row.len()].copy_from_slice(row);
            let columns = Columns::guess(&[padded], row.len(), intensity_first);
            (columns.normal, columns.color)
        };
        let (normal, color) = ([0.6, 0.0, -0.8], [10.0, 20.0, 255.0]);
        let row = |columns: &[&[f64]]| [&[1.0, 2.0, 3.0], columns.concat().as_slice()].concat();
        assert_eq!(guess(&row(&[]), false), (None, None));
        assert_eq!(guess(&row(&[&[7.0]]), false), (None, None));
        assert_eq!(guess(&row(&[&normal]), false), (Some(3), None));
        assert_eq!(guess(&row(&[&color]), false), (None, Some(3)));
        assert_eq!(guess(&row(&[&normal, &color]), false), (Some(3), Some(6)));
        assert_eq!(guess(&row(&[&color, &normal]), false), (Some(6), Some(3)));
        assert_eq!(
            guess(&row(&[&normal, &[4.0]]), false),
            (Some(3), None),
            "a part's label"
        );
        assert_eq!(guess(&row(&[&color, &[4.0]]), false), (None, Some(3)), "a class");
        assert_eq!(
            guess(&row(&[&[4.0], &color]), true),
            (None, Some(4)),
            "an intensity"
        );
        assert_eq!(guess(&row(&[&[-900.0], &color]), false), (None, Some(4)));
        assert_eq!(guess(&row(&[&[300.5, 1.0, 2.0]]), false), (None, None));
        assert_eq!(guess(&row(&[&[0.25, 0.5, 0.125]]), false), (None, Some(3)));
    }
}
