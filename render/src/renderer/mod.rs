//! `Renderer`: jobs in, views out, on either backend.

mod cpu;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::adapter::{AdapterChoice, AdapterKind, AdapterReport};
use crate::error::RenderError;
use crate::gpu::{GpuRenderer, PendingGpuViews, list_devices, may_have_gpu};
use crate::job::{BackendKind, RenderJob};
use crate::mesh::{Mesh, ObjectFromMesh};
use crate::parse::ParseError;
use crate::recipe::RenderRecipe;
use crate::view::View;
pub use cpu::CpuRenderer;

/// One mesh that the device draws, one that waits for it, one that is read back.
pub const DEFAULT_IN_FLIGHT: usize = 3;

/// Which backend draws. On a command line: `auto`, `cpu` or `wgpu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackendChoice {
    /// A GPU if there is one or if an adapter is asked for, else the CPU. On Linux no driver is loaded if there is no
    /// GPU device node.
    #[default]
    Auto,
    /// The CPU backend of this crate, which needs no driver.
    Cpu,
    /// A device of Vulkan, Metal or DirectX, which may be Mesa's software driver.
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

/// All adapters of this machine in the order that [`BackendChoice::Auto`] prefers: GPUs, the CPU backend, software
/// drivers.
#[must_use]
pub fn list_adapters() -> Vec<AdapterReport> {
    let mut adapters = list_devices();
    let num_gpus = adapters.partition_point(|device| device.kind < AdapterKind::Cpu);
    // Without a device node, no device is chosen.
    let position = if may_have_gpu() { num_gpus } else { 0 };
    adapters.insert(position, CpuRenderer::report());
    adapters
}

/// Settings of a renderer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RendererOptions {
    /// CPU or wgpu.
    pub backend: BackendChoice,
    /// Which adapter of the `wgpu` backend.
    pub adapter: AdapterChoice,
    /// How many meshes may be submitted and not yet finished, at least 1.
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
    Cpu(CpuRenderer),
    Gpu(Box<GpuRenderer>),
}

/// Submitted views, to be passed to [`Renderer::finish`]. Dropping it discards them.
#[derive(Debug)]
pub struct PendingViews(Pending);

#[derive(Debug)]
enum Pending {
    Done(Vec<View>),
    OnGpu(Box<PendingGpuViews>),
}

impl Renderer {
    /// # Errors
    ///
    /// A [`RenderError`] that says what to install if the requested adapter does not exist. The CPU backend cannot
    /// fail.
    pub fn try_new(options: &RendererOptions) -> Result<Self, RenderError> {
        let RendererOptions {
            backend,
            adapter,
            max_in_flight,
        } = options;
        if *max_in_flight == 0 {
            return Err(RenderError::ZeroInFlight);
        }
        let gpu = match backend {
            BackendChoice::Cpu if *adapter != AdapterChoice::Auto => {
                return Err(RenderError::AdapterWithCpu {
                    adapter: adapter.clone(),
                });
            }
            BackendChoice::Cpu => None,
            BackendChoice::Auto if *adapter == AdapterChoice::Auto => {
                GpuRenderer::try_best_gpu(*max_in_flight)?
            }
            BackendChoice::Auto | BackendChoice::Wgpu => Some(GpuRenderer::try_new(adapter, *max_in_flight)?),
        };
        let (report, backend) = match gpu {
            Some(gpu) => (gpu.adapter().clone(), Backend::Gpu(Box::new(gpu))),
            None => (CpuRenderer::report(), Backend::Cpu(CpuRenderer::default())),
        };
        tracing::info!(adapter = %report, "renderer");
        Ok(Self { report, backend })
    }

    /// The adapter that draws.
    #[must_use]
    pub fn adapter(&self) -> &AdapterReport {
        &self.report
    }

    /// How many meshes may be submitted and not yet finished; 1 on the CPU.
    #[must_use]
    pub fn max_in_flight(&self) -> usize {
        match &self.backend {
            Backend::Cpu(_) => 1,
            Backend::Gpu(gpu) => gpu.max_in_flight(),
        }
    }

    /// Device time of the mesh that was finished last, from its first command to its last, by timestamp queries. `None`
    /// on the CPU, or if the device has no timestamps.
    #[must_use]
    pub fn device_time(&self) -> Option<Duration> {
        match &self.backend {
            Backend::Cpu(_) => None,
            Backend::Gpu(gpu) => gpu.device_time(),
        }
    }

    /// The kind of backend, for [`RenderJob::try_new`].
    #[must_use]
    pub fn backend_kind(&self) -> BackendKind {
        match &self.backend {
            Backend::Cpu(_) => BackendKind::Cpu,
            Backend::Gpu(gpu) => gpu.backend_kind(),
        }
    }

    /// The CPU renderer if it is the backend, so that workers can draw on threads of their own.
    #[must_use]
    pub fn cpu(&self) -> Option<CpuRenderer> {
        match &self.backend {
            Backend::Cpu(cpu) => Some(cpu.clone()),
            Backend::Gpu(_) => None,
        }
    }

    /// Draws all views of a mesh and waits for them.
    ///
    /// # Errors
    ///
    /// As [`RenderJob::try_new`], [`Renderer::submit`] and [`Renderer::finish`].
    pub fn render(
        &mut self,
        mesh: &Mesh,
        object_from_mesh: &ObjectFromMesh,
        recipe: &RenderRecipe,
    ) -> Result<Vec<View>, RenderError> {
        let job = RenderJob::try_new(mesh, object_from_mesh, recipe, self.backend_kind())?;
        let pending = self.submit(&job)?;
        self.finish(pending)
    }

    /// Submits all views of a mesh without waiting. The CPU backend draws them at once, on all cores.
    ///
    /// # Errors
    ///
    /// On a device, [`RenderError::TooManyInFlight`] if [`Renderer::max_in_flight`] meshes are pending,
    /// [`RenderError::Object`] if its buffers cannot hold them, and whatever
    /// error it reports.
    pub fn submit(&mut self, job: &RenderJob) -> Result<PendingViews, RenderError> {
        Ok(PendingViews(match &mut self.backend {
            Backend::Cpu(cpu) => Pending::Done(cpu.draw_in_parallel(job)),
            Backend::Gpu(gpu) => Pending::OnGpu(Box::new(gpu.submit(job)?)),
        }))
    }

    /// Waits until the views of a mesh are drawn, without reading them back, for callers that time the two separately.
    ///
    /// # Errors
    ///
    /// A [`RenderError`] if the device is lost or out of memory.
    pub fn wait(&self, pending: &PendingViews) -> Result<(), RenderError> {
        match (&pending.0, &self.backend) {
            (Pending::OnGpu(pending), Backend::Gpu(gpu)) => Ok(gpu.wait(pending)?),
            (Pending::OnGpu(_), Backend::Cpu(_)) => Err(RenderError::WrongRenderer),
            (Pending::Done(_), _) => Ok(()),
        }
    }

    /// Waits for the views of a mesh and reads them back.
    ///
    /// # Errors
    ///
    /// A [`RenderError`] if the device is lost, out of memory, or readback fails.
    pub fn finish(&mut self, pending: PendingViews) -> Result<Vec<View>, RenderError> {
        match (pending.0, &mut self.backend) {
            (Pending::Done(views), _) => Ok(views),
            (Pending::OnGpu(pending), Backend::Gpu(gpu)) => Ok(gpu.finish(*pending)?),
            (Pending::OnGpu(_), Backend::Cpu(_)) => Err(RenderError::WrongRenderer),
        }
    }
}
