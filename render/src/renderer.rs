//! `Renderer`: framed meshes in, views out, whoever draws them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::cpu::SoftwareRenderer;
use crate::error::{ParseError, RenderError};
use crate::gpu::{
    AdapterChoice, AdapterKind, AdapterReport, GpuRenderer, PendingOnGpu, list_devices, may_have_gpu,
};
use crate::job::{DrawnBy, Framed};
use crate::mesh::{Mesh, ObjectFromMesh};
use crate::recipe::RenderRecipe;
use crate::view::View;

/// Meshes in flight: one that the device draws, one that waits for it, one that is read back.
pub const DEFAULT_IN_FLIGHT: usize = 3;

/// Who draws. On a command line: `auto`, `cpu` or `wgpu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackendChoice {
    /// A GPU if there is one or if an adapter is asked for, else the CPU. On Linux no driver is loaded where the system
    /// knows of no GPU.
    #[default]
    Auto,
    /// The CPU, by this crate's own hand: no driver is needed.
    Cpu,
    /// A device of Vulkan, Metal or DirectX, be it Mesa's software driver.
    Wgpu,
}

impl FromStr for BackendChoice {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "wgpu" => Ok(Self::Wgpu),
            _ => Err(ParseError {
                what: "backend",
                expected: "auto, cpu or wgpu",
                found: text.to_owned(),
            }),
        }
    }
}

impl fmt::Display for BackendChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Wgpu => "wgpu",
        })
    }
}

/// All that can draw on this machine, what is chosen by itself first: GPUs, the CPU's own renderer, software drivers.
#[must_use]
pub fn list_adapters() -> Vec<AdapterReport> {
    let mut adapters = list_devices();
    let num_gpus = adapters.partition_point(|device| device.kind < AdapterKind::Cpu);
    // Where no device is looked for, none is chosen.
    let position = if may_have_gpu() { num_gpus } else { 0 };
    adapters.insert(position, SoftwareRenderer::report());
    adapters
}

/// How a renderer is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RendererOptions {
    /// Who draws.
    pub backend: BackendChoice,
    /// Which adapter of the `wgpu` backend.
    pub adapter: AdapterChoice,
    /// How many meshes may be submitted and not yet finished.
    pub max_in_flight: usize,
}

impl Default for RendererOptions {
    fn default() -> Self {
        Self {
            backend: BackendChoice::default(),
            adapter: AdapterChoice::default(),
            max_in_flight: DEFAULT_IN_FLIGHT,
        }
    }
}

/// Draws views. One thread feeds it; it is `Send`.
#[derive(Debug)]
pub struct Renderer {
    report: AdapterReport,
    backend: Backend,
}

#[derive(Debug)]
enum Backend {
    Software(SoftwareRenderer),
    Gpu(Box<GpuRenderer>),
}

/// Views on their way. Hand it to [`Renderer::finish`]; dropped, the views are lost, no more.
#[derive(Debug)]
pub struct PendingViews(Pending);

#[derive(Debug)]
enum Pending {
    Drawn(Vec<View>),
    OnGpu(Box<PendingOnGpu>),
}

impl Renderer {
    /// # Errors
    ///
    /// A [`RenderError`] that says what to install if there is no adapter as asked for. With the CPU nothing can fail.
    pub fn try_new(options: &RendererOptions) -> Result<Self, RenderError> {
        let RendererOptions {
            backend,
            adapter,
            max_in_flight,
        } = options;
        if *max_in_flight == 0 {
            return Err(RenderError::NoneInFlight);
        }
        let gpu = match backend {
            BackendChoice::Cpu if *adapter != AdapterChoice::Auto => {
                return Err(RenderError::AdapterOfCpu {
                    adapter: adapter.clone(),
                });
            }
            BackendChoice::Cpu => None,
            BackendChoice::Auto if *adapter == AdapterChoice::Auto => {
                GpuRenderer::try_on_gpu(*max_in_flight)?
            }
            BackendChoice::Auto | BackendChoice::Wgpu => Some(GpuRenderer::try_new(adapter, *max_in_flight)?),
        };
        let (report, backend) = match gpu {
            Some(gpu) => (gpu.adapter().clone(), Backend::Gpu(Box::new(gpu))),
            None => (
                SoftwareRenderer::report(),
                Backend::Software(SoftwareRenderer::default()),
            ),
        };
        tracing::info!(adapter = %report, "renderer");
        Ok(Self { report, backend })
    }

    /// What the views are drawn with.
    #[must_use]
    pub fn adapter(&self) -> &AdapterReport {
        &self.report
    }

    /// How many meshes may be submitted and not yet finished.
    #[must_use]
    pub fn max_in_flight(&self) -> usize {
        match &self.backend {
            Backend::Software(_) => 1,
            Backend::Gpu(gpu) => gpu.max_in_flight(),
        }
    }

    /// How long the device worked on the mesh that was finished last, by its own clock: from the first of its commands to
    /// the last. `None` if the CPU draws, or if the device has no clock.
    #[must_use]
    pub fn device_time(&self) -> Option<Duration> {
        match &self.backend {
            Backend::Software(_) => None,
            Backend::Gpu(gpu) => gpu.device_time(),
        }
    }

    /// Who draws, as [`Framed::try_new`] wants to know.
    #[must_use]
    pub fn drawn_by(&self) -> DrawnBy {
        match &self.backend {
            Backend::Software(_) => DrawnBy::Software,
            Backend::Gpu(gpu) => gpu.drawn_by(),
        }
    }

    /// The CPU's hand, if it is the CPU that draws: workers with many meshes draw each on their own thread with it.
    #[must_use]
    pub fn software(&self) -> Option<SoftwareRenderer> {
        match &self.backend {
            Backend::Software(software) => Some(software.clone()),
            Backend::Gpu(_) => None,
        }
    }

    /// Draws all views of a mesh and waits for them.
    ///
    /// # Errors
    ///
    /// As [`Framed::try_new`], [`Renderer::submit`] and [`Renderer::finish`].
    pub fn render(
        &mut self,
        mesh: &Mesh,
        object_from_mesh: &ObjectFromMesh,
        recipe: &RenderRecipe,
    ) -> Result<Vec<View>, RenderError> {
        let framed = Framed::try_new(mesh, object_from_mesh, recipe, self.drawn_by())?;
        let pending = self.submit(&framed)?;
        self.finish(pending)
    }

    /// Hands all views of a mesh to the device, in one submission, and does not wait for them. The CPU draws them at
    /// once, on all cores.
    ///
    /// # Errors
    ///
    /// With a device, [`RenderError::TooManyInFlight`] if the caller holds [`Renderer::max_in_flight`] pending meshes,
    /// [`RenderError::MeshTooLarge`] or [`RenderError::ViewsTooLarge`] if it has no buffer of that size, and whatever it
    /// complains of.
    pub fn submit(&mut self, framed: &Framed) -> Result<PendingViews, RenderError> {
        Ok(PendingViews(match &mut self.backend {
            Backend::Software(software) => Pending::Drawn(software.draw_in_parallel(framed)),
            Backend::Gpu(gpu) => Pending::OnGpu(Box::new(gpu.submit(framed)?)),
        }))
    }

    /// Waits until the views of one mesh are drawn, and does not read them back yet: for callers that time the two apart.
    ///
    /// # Errors
    ///
    /// A [`RenderError`] if the device is lost or out of memory.
    pub fn wait(&self, pending: &PendingViews) -> Result<(), RenderError> {
        match (&pending.0, &self.backend) {
            (Pending::OnGpu(pending), Backend::Gpu(gpu)) => gpu.wait(pending),
            (Pending::OnGpu(_), Backend::Software(_)) => Err(RenderError::NotMine),
            (Pending::Drawn(_), _) => Ok(()),
        }
    }

    /// Waits for the views of one mesh.
    ///
    /// # Errors
    ///
    /// A [`RenderError`] if the device is lost, out of memory, or does not hand the pixels over.
    pub fn finish(&mut self, pending: PendingViews) -> Result<Vec<View>, RenderError> {
        match (pending.0, &mut self.backend) {
            (Pending::Drawn(views), _) => Ok(views),
            (Pending::OnGpu(pending), Backend::Gpu(gpu)) => gpu.finish(*pending),
            (Pending::OnGpu(_), Backend::Software(_)) => Err(RenderError::NotMine),
        }
    }
}
