//! Rows as dictionaries of arrays: images decoded, masks unpacked. Decoding needs no interpreter.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tap_dataset::{
    Dataset, DatasetError, GbufferPixels, ImageError, MeshIssues, Permutation, PngShape, Projection, Sample,
    SampleView, ViewGbuffer, decode_png_into, sha256,
};

use crate::array::array;

/// What a row has where nothing else is asked for, as far as the data set has it: what networks learn from.
const DEFAULTS: [&str; 11] = [
    "id",
    "category",
    "label",
    "points",
    "normals",
    "part_labels",
    "images",
    "masks",
    "view_from_object",
    "clip_from_view",
    "object_from_mesh",
];

/// The columns that are read, in their order in the file, and which views.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    columns: Vec<&'static str>,
    views: ViewChoice,
}

/// Which views are read.
#[derive(Debug, Clone)]
pub(crate) enum ViewChoice {
    /// All, in the order of the rig.
    All,
    /// These, in this order.
    These(Vec<usize>),
    /// This many, drawn anew each epoch.
    Drawn {
        /// How many.
        num_views: usize,
        /// Of the draw.
        seed: u64,
    },
}

impl Selection {
    /// The named columns, or the usual ones.
    ///
    /// # Errors
    /// When the data set has no such column or view.
    pub(crate) fn new(dataset: &Dataset, names: Option<&[String]>, views: ViewChoice) -> PyResult<Self> {
        let stored = dataset.column_names();
        let columns = if let Some(names) = names {
            if let Some(unknown) = names.iter().find(|name| !stored.contains(&name.as_str())) {
                return Err(PyValueError::new_err(format!(
                    "no column \"{unknown}\"; there are: {}",
                    stored.join(", ")
                )));
            }
            let is_named = |name: &&str| names.iter().any(|named| named == *name);
            stored.into_iter().filter(is_named).collect()
        } else {
            let has_parts = !dataset.manifest().parts.is_empty();
            let is_usual = |name: &&str| DEFAULTS.contains(name) && (has_parts || *name != "part_labels");
            stored.into_iter().filter(is_usual).collect()
        };
        let stored_views = dataset.num_views();
        let out_of_range = match &views {
            ViewChoice::All => None,
            ViewChoice::These(views) => views.iter().copied().find(|&view| view >= stored_views),
            ViewChoice::Drawn { num_views, .. } => {
                Some(*num_views).filter(|&num_views| num_views > stored_views)
            }
        };
        if let Some(views) = out_of_range {
            return Err(PyValueError::new_err(format!("views: {views} of {stored_views}")));
        }
        Ok(Self { columns, views })
    }

    pub(crate) fn columns(&self) -> &[&'static str] {
        &self.columns
    }

    /// What is read of the shards.
    pub(crate) fn projection(&self, dataset: &Dataset) -> Result<Projection, DatasetError> {
        // A G-buffer is one value.
        let stored = dataset.column_names().into_iter();
        let gbuffer = stored.filter(|name| is_gbuffer(name) && self.has_gbuffer());
        let projection = Projection::of_columns(self.columns.iter().copied().chain(gbuffer))?;
        Ok(match &self.views {
            ViewChoice::These(views) => projection.with_views(views.clone()),
            ViewChoice::All | ViewChoice::Drawn { .. } => projection,
        })
    }

    fn has_gbuffer(&self) -> bool {
        self.columns.iter().any(|name| is_gbuffer(name))
    }

    /// Leaves the views that are drawn of a sample, in the order of the draw: a function of (seed, pass, id).
    fn draw(&self, sample: &mut Sample, pass: u64) {
        let ViewChoice::Drawn { num_views, seed } = self.views else {
            return;
        };
        let hash = sha256::of_bytes(sample.id.as_str());
        let id = u64::from_str_radix(&hash[..16], 16).expect("a hash is 64 hexadecimal digits");
        let order = Permutation::new(sample.views.len() as u64, &[seed, pass, id]);
        let num_drawn = num_views.min(sample.views.len()) as u64;
        sample.views = (0..num_drawn)
            .map(|place| sample.views[order.at(place) as usize].clone())
            .collect();
    }
}

/// Is it one of the columns of a G-buffer?
fn is_gbuffer(name: &str) -> bool {
    name.starts_with("gbuffer_")
}

/// A value of a row.
enum Cell {
    Null,
    Text(String),
    Texts(Vec<String>),
    Int(i64),
    Float(f64),
    Bool(bool),
    Bytes(Vec<u8>, Vec<usize>),
    Bools(Vec<bool>, Vec<usize>),
    Floats(Vec<f32>, Vec<usize>),
    /// Depths, which are stored in 16 bits.
    Doubles(Vec<f64>, Vec<usize>),
}

impl Cell {
    fn num_bytes(&self) -> usize {
        match self {
            Self::Bytes(values, _) => values.len(),
            Self::Bools(values, _) => values.len(),
            Self::Floats(values, _) => size_of_val(&values[..]),
            Self::Doubles(values, _) => size_of_val(&values[..]),
            _ => size_of_val(self),
        }
    }

    fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let object = match self {
            Self::Null => py.None(),
            Self::Text(text) => text.into_pyobject(py)?.into_any().unbind(),
            Self::Texts(texts) => texts.into_pyobject(py)?.into_any().unbind(),
            Self::Int(number) => number.into_pyobject(py)?.into_any().unbind(),
            Self::Float(number) => number.into_pyobject(py)?.into_any().unbind(),
            Self::Bool(value) => value.into_pyobject(py)?.to_owned().into_any().unbind(),
            Self::Bytes(values, shape) => array(py, values, &shape)?,
            Self::Bools(values, shape) => array(py, values, &shape)?,
            Self::Floats(values, shape) => array(py, values, &shape)?,
            Self::Doubles(values, shape) => array(py, values, &shape)?,
        };
        Ok(object)
    }
}

/// A decoded row.
pub(crate) struct Row(Vec<(&'static str, Cell)>);

impl Row {
    /// The row of a sample with images of this size; `pass` says which views are drawn.
    ///
    /// # Errors
    /// When an image or G-buffer is damaged, or of another size than the data set's.
    pub(crate) fn decode(
        mut sample: Sample,
        pass: u64,
        selection: &Selection,
        size_px: u32,
    ) -> Result<Self, DatasetError> {
        selection.draw(&mut sample, pass);
        let gbuffers = if selection.has_gbuffer() {
            decode_gbuffers(&sample.views, size_px)?
        } else {
            Vec::new()
        };
        let cells = selection.columns.iter();
        let cells: Result<Vec<_>, _> = cells
            .map(|name| Ok((*name, cell(name, &sample, &gbuffers, size_px)?)))
            .collect();
        cells.map(Self)
    }

    /// Memory of its arrays.
    pub(crate) fn num_bytes(&self) -> usize {
        self.0.iter().map(|(_, cell)| cell.num_bytes()).sum()
    }

    pub(crate) fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        let dict = PyDict::new(py);
        for (name, cell) in self.0 {
            dict.set_item(name, cell.into_python(py)?)?;
        }
        Ok(dict)
    }
}

fn cell(name: &str, sample: &Sample, gbuffers: &[GbufferPixels], size_px: u32) -> Result<Cell, DatasetError> {
    let Sample {
        id,
        category,
        label,
        points,
        normals,
        part_labels,
        views,
        coverage_min,
        object_from_mesh,
        source_sha256,
        assets_sha256,
        mesh,
    } = sample;
    let side = size_px as usize;
    let or_null = |cell: Option<Cell>| cell.unwrap_or(Cell::Null);
    let vectors =
        |vectors: &[[f32; 3]]| Cell::Floats(vectors.as_flattened().to_vec(), vec![vectors.len(), 3]);
    let matrices = |matrix: fn(&SampleView) -> &[f32; 16]| {
        let values = views.iter().flat_map(|view| *matrix(view)).collect();
        Cell::Floats(values, vec![views.len(), 4, 4])
    };
    let issues = mesh.as_ref().and_then(|mesh| mesh.issues.as_ref());
    let count = |count: fn(&MeshIssues) -> i64| or_null(issues.map(|issues| Cell::Int(count(issues))));
    Ok(match name {
        "id" => Cell::Text(id.as_str().to_owned()),
        "category" => Cell::Text(category.clone()),
        "label" => Cell::Int(*label),
        "points" => vectors(points),
        "normals" => or_null(normals.as_deref().map(vectors)),
        "part_labels" => or_null(
            part_labels
                .as_ref()
                .map(|labels| Cell::Bytes(labels.clone(), vec![labels.len()])),
        ),
        "images" => images(views, size_px)?,
        "masks" => masks(views, size_px),
        "view_from_object" => matrices(|view| &view.view_from_object),
        "clip_from_view" => matrices(|view| &view.clip_from_view),
        "object_from_mesh" => Cell::Floats(object_from_mesh.to_vec(), vec![4, 4]),
        "num_triangles" => or_null(mesh.as_ref().map(|mesh| Cell::Int(mesh.num_triangles))),
        "surface_area" => or_null(mesh.as_ref().map(|mesh| Cell::Float(mesh.surface_area))),
        "is_watertight" => or_null(mesh.as_ref().map(|mesh| Cell::Bool(mesh.is_watertight))),
        "coverage_min" => or_null(coverage_min.map(|coverage| Cell::Float(coverage.into()))),
        "source_sha256" => Cell::Text(source_sha256.clone()),
        "assets_sha256" => or_null(assets_sha256.clone().map(Cell::Text)),
        "num_open_edges" => count(|issues| issues.num_open_edges),
        "num_non_manifold_edges" => count(|issues| issues.num_non_manifold_edges),
        "num_flipped_edges" => count(|issues| issues.num_flipped_edges),
        "num_coincident_triangles" => count(|issues| issues.num_coincident_triangles),
        "num_degenerate_triangles" => count(|issues| issues.num_degenerate_triangles),
        "is_inside_out" => or_null(issues.map(|issues| Cell::Bool(issues.is_inside_out))),
        "findings" => {
            let kinds = mesh.as_ref().and_then(tap_dataset::MeshStats::issue_kinds);
            or_null(kinds.map(|kinds| Cell::Texts(kinds.iter().map(ToString::to_string).collect())))
        }
        "warnings" => or_null(issues.map(|issues| Cell::Texts(issues.warnings.clone()))),
        "gbuffer_normals" => {
            let normals = gbuffers
                .iter()
                .flat_map(|view| view.normals.as_flattened())
                .copied();
            Cell::Floats(normals.collect(), vec![views.len(), side, side, 3])
        }
        "gbuffer_depth" => {
            let depth = gbuffers.iter().flat_map(|view| &view.depth).copied();
            Cell::Doubles(depth.collect(), vec![views.len(), side, side])
        }
        "gbuffer_albedo" => {
            let albedo = gbuffers.iter().filter_map(|view| view.albedo.as_deref());
            let albedo = albedo.flat_map(<[[u8; 3]]>::as_flattened).copied();
            Cell::Bytes(albedo.collect(), vec![views.len(), side, side, 3])
        }
        _ => Cell::Null,
    })
}

/// (V, H, W), or (V, H, W, 3) if any image has colors.
fn images(views: &[SampleView], size_px: u32) -> Result<Cell, DatasetError> {
    let side = size_px as usize;
    let mut values = Vec::with_capacity(views.len() * side * side);
    let mut num_channels = 1;
    for view in views {
        let begin = values.len();
        let image = decode_png_into(&view.image_png, &mut values)?;
        if (image.width_px, image.height_px) != (size_px, size_px) {
            let PngShape {
                width_px, height_px, ..
            } = image;
            return Err(ImageError::Format(format!(
                "{width_px}x{height_px} pixels instead of {size_px}x{size_px}"
            ))
            .into());
        }
        if image.num_channels > num_channels {
            let color = values.split_off(begin);
            values = tripled(&values);
            values.extend(color);
            num_channels = image.num_channels;
        } else if image.num_channels < num_channels {
            let gray = values.split_off(begin);
            values.extend(tripled(&gray));
        }
    }
    let mut shape = vec![views.len(), side, side];
    if num_channels == 3 {
        shape.push(3);
    }
    Ok(Cell::Bytes(values, shape))
}

/// Gray in three channels.
fn tripled(gray: &[u8]) -> Vec<u8> {
    gray.iter().flat_map(|value| [*value; 3]).collect()
}

fn masks(views: &[SampleView], size_px: u32) -> Cell {
    let side = size_px as usize;
    let mut values = Vec::with_capacity(views.len() * side * side);
    for view in views {
        view.mask.append_pixels(&mut values);
    }
    let values = values.into_iter().map(|pixel| pixel == 1).collect();
    Cell::Bools(values, vec![views.len(), side, side])
}

fn decode_gbuffers(views: &[SampleView], size_px: u32) -> Result<Vec<GbufferPixels>, DatasetError> {
    let gbuffers = views.iter().filter_map(|view| view.gbuffer.as_ref());
    gbuffers
        .map(|gbuffer: &ViewGbuffer| gbuffer.decode(size_px))
        .collect()
}
