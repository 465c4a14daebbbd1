//! `render` and `Renderer`: a mesh in, [`Views`] out.

use std::process;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tap_render::{
    BackendKind, CpuRenderer, Mesh, ObjectFromMesh, RenderJob, RenderRecipe, RendererOptions, UpAxis, View,
    list_adapters,
};

use crate::error::render_error;
use crate::mesh::MeshInput;
use crate::settings::{Keywords, render_recipe, render_settings, renderer_options};
use crate::threads::Threads;
use crate::views::{RawViews, Views};

/// Draws the views of meshes, one after the other or from several threads, and keeps its buffers between them.
///
/// Takes the keywords of `render` but those of the mesh. See `render`.
#[pyclass(frozen, module = "tap_views")]
pub(crate) struct Renderer {
    settings: RenderSettings,
    device: Arc<Device>,
}

/// What views look like.
struct RenderSettings {
    recipe: RenderRecipe,
    up: UpAxis,
    as_rgb: bool,
}

impl RenderSettings {
    fn take(keywords: &mut Keywords<'_>) -> PyResult<Self> {
        Ok(Self {
            recipe: render_recipe(render_settings(keywords)?)?,
            up: keywords.parse("up")?.unwrap_or_default(),
            as_rgb: keywords.take_as("rgb")?.unwrap_or_default(),
        })
    }
}

/// What a device is opened with.
#[derive(PartialEq)]
struct DeviceOptions {
    renderer: RendererOptions,
    num_threads: usize,
}

impl DeviceOptions {
    fn take(keywords: &mut Keywords<'_>) -> PyResult<Self> {
        Ok(Self {
            renderer: renderer_options(keywords)?,
            num_threads: keywords.take_as("threads")?.unwrap_or_default(),
        })
    }
}

/// What draws. Python's threads share it: on the CPU they draw side by side, on a device in turn.
struct Device {
    options: DeviceOptions,
    /// The process that opened it.
    pid: u32,
    renderer: Mutex<tap_render::Renderer>,
    cpu: Option<CpuRenderer>,
    kind: BackendKind,
    adapter: String,
    threads: Threads,
}

/// Devices that `render` has opened, so that the next call finds warm buffers.
static OPENED: Mutex<Vec<Arc<Device>>> = Mutex::new(Vec::new());
/// Most devices that are kept open.
const MAX_OPENED: usize = 8;

impl Device {
    fn open(options: DeviceOptions) -> PyResult<Self> {
        let renderer =
            tap_render::Renderer::try_new(&options.renderer).map_err(|error| render_error(&error))?;
        Ok(Self {
            pid: process::id(),
            cpu: renderer.cpu(),
            kind: renderer.backend_kind(),
            adapter: renderer.adapter().to_string(),
            renderer: Mutex::new(renderer),
            threads: Threads::new(options.num_threads),
            options,
        })
    }

    /// The device with these options, opened before or now.
    fn shared(options: DeviceOptions) -> PyResult<Arc<Self>> {
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |device: &&Arc<Self>| device.options == options && device.is_usable();
        if let Some(device) = opened.iter().find(is_it) {
            return Ok(Arc::clone(device));
        }
        let device = Arc::new(Self::open(options)?);
        opened.truncate(MAX_OPENED - 1);
        opened.insert(0, Arc::clone(&device));
        Ok(device)
    }

    /// The CPU survives a fork, and a GPU doesn't.
    fn is_usable(&self) -> bool {
        self.cpu.is_some() || self.pid == process::id()
    }

    fn draw(&self, job: &RenderJob) -> PyResult<Vec<View>> {
        if let Some(cpu) = &self.cpu {
            return Ok(match self.threads.pool() {
                Some(pool) => pool.install(|| cpu.draw_in_parallel(job)),
                None => cpu.draw(job),
            });
        }
        if !self.is_usable() {
            return Err(PyRuntimeError::new_err(
                "a GPU can't be used in a forked process: make the Renderer there, or start workers by 'spawn'",
            ));
        }
        let mut renderer = self.renderer.lock().unwrap_or_else(PoisonError::into_inner);
        let views = renderer.submit(job).and_then(|pending| renderer.finish(pending));
        views.map_err(|error| render_error(&error))
    }

    fn render(&self, mesh: &Mesh, settings: &RenderSettings) -> PyResult<RawViews> {
        let RenderSettings { recipe, up, as_rgb } = settings;
        let object_from_mesh = ObjectFromMesh::from_surface(mesh, *up);
        let job = RenderJob::try_new(mesh, &object_from_mesh, recipe, self.kind)
            .map_err(|error| render_error(&error))?;
        let views = self.draw(&job)?;
        Ok(RawViews::new(mesh, &object_from_mesh, recipe, &views, *as_rgb))
    }
}

/// Reads and renders a mesh without the interpreter's lock.
fn render_input(
    py: Python<'_>,
    device: &Device,
    settings: &RenderSettings,
    input: MeshInput,
) -> PyResult<Views> {
    let views = py.detach(|| device.render(&input.read(&settings.recipe)?, settings))?;
    views.into_python(py, &device.adapter)
}

/// Renders the views of a mesh, headless: on a GPU if there is one, else on all cores.
///
/// mesh: the path of an OBJ, OFF, PLY, STL, glTF or GLB file or of points; vertices (N, 3), with faces (M, 3) as the next
///     argument or as a pair; an object with the attributes `vertices` and `faces` (trimesh) or `triangles` (Open3D); or points
///     (N, 3) alone.
/// vertex_colors, face_colors: (N or M, 3 or 4), bytes or numbers from 0 to 1; seen under a lighting of the mesh's own colors,
///     such as "textured".
/// rig: mvcnn12 (the default), dodecahedron80, sphere:N, random:N:SEED, turntable:N:ELEVATION, poses in degrees as
///     (azimuth, elevation) or (azimuth, elevation, roll), or a JSON file of them.
/// lighting: mvcnn (the default), mvcnn-2015, textured, three-point, headlight-specular, hemisphere, normals, depth, random:SEED, or
///     a dict of what differs from mvcnn.
/// framing: mvcnn (the default), box or sphere. projection: perspective (the default), perspective:D or orthographic.
/// size: side in pixels, 224. samples: per pixel, 1, 4 (the default), 16 or 64.
/// channels: of color, mask (both the default), depth, normal, albedo, part, material.
/// up: y (the default) or z, the axis of the mesh that points up.
/// rgb: repeat gray in three channels.
/// backend: auto, cpu or wgpu. adapter: auto, software or a part of its name.
/// threads: on the CPU; 0 (the default) for one per core, 1 to draw on the calling thread.
///
/// Other threads of Python run meanwhile. Raises MeshError, OSError, ValueError, RenderError.
#[pyfunction]
#[pyo3(signature = (mesh, faces=None, **keywords))]
pub(crate) fn render(
    py: Python<'_>,
    mesh: &Bound<'_, PyAny>,
    faces: Option<&Bound<'_, PyAny>>,
    keywords: Option<&Bound<'_, PyDict>>,
) -> PyResult<Views> {
    let mut keywords = Keywords::new("render", keywords)?;
    let input = MeshInput::new(mesh, faces, &mut keywords)?;
    let settings = RenderSettings::take(&mut keywords)?;
    let options = DeviceOptions::take(&mut keywords)?;
    keywords.finish()?;
    let device = py.detach(|| Device::shared(options))?;
    render_input(py, &device, &settings, input)
}

#[pymethods]
impl Renderer {
    #[new]
    #[pyo3(signature = (**keywords))]
    fn new(py: Python<'_>, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut keywords = Keywords::new("Renderer", keywords)?;
        let settings = RenderSettings::take(&mut keywords)?;
        let options = DeviceOptions::take(&mut keywords)?;
        keywords.finish()?;
        let device = py.detach(|| Device::open(options))?;
        Ok(Self {
            settings,
            device: Arc::new(device),
        })
    }

    /// Renders the views of a mesh, given as to the function `render`.
    #[pyo3(signature = (mesh, faces=None, **keywords))]
    fn render(
        &self,
        py: Python<'_>,
        mesh: &Bound<'_, PyAny>,
        faces: Option<&Bound<'_, PyAny>>,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Views> {
        let mut keywords = Keywords::new("render", keywords)?;
        let input = MeshInput::new(mesh, faces, &mut keywords)?;
        keywords.finish()?;
        render_input(py, &self.device, &self.settings, input)
    }

    /// What renders.
    #[getter]
    fn adapter(&self) -> &str {
        &self.device.adapter
    }

    fn __repr__(&self) -> String {
        let RenderRecipe { rig, size_px, .. } = &self.settings.recipe;
        format!("<Renderer: {rig}, {size_px} pixels, {}>", self.device.adapter)
    }
}

/// What can render on this machine, in the order in which `backend="auto"` prefers it.
#[pyfunction]
pub(crate) fn adapters(py: Python<'_>) -> Vec<String> {
    py.detach(|| list_adapters().iter().map(ToString::to_string).collect())
}
