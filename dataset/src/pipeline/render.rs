//! Jobs that render meshes: on a device thread, which keeps several in flight, or on the CPU by the workers that
//! prepared them.

use std::sync::atomic::AtomicBool;

use tap_render::{
    CpuRenderer, QueueEvent, QueuedJob, RenderError, Renderer, RendererOptions, View, run_render_queue,
};

use super::ordered::{Delivery, Device, Job, Limits, Reporter, Step, run, run_with_device};
use crate::error::ThreadError;

/// What is done to each mesh before and after it is rendered.
pub(crate) trait MeshJob: Sync {
    /// A mesh ready to render.
    type Prepared: QueuedJob + Send;
    /// Result of an item, its own failure included.
    type Output: Send;
    /// An error that ends the run.
    type Error: Send + From<ThreadError> + From<RenderError>;

    /// Number of meshes.
    fn num_items(&self) -> usize;

    /// Size of a mesh file, which counts towards the limit in flight.
    fn size_bytes(&self, item: usize) -> u64;

    /// From the file to a mesh that is ready to render; `Err` is an output without rendering.
    fn prepare(&self, item: usize) -> Result<Self::Prepared, Self::Output>;

    /// Renders on the CPU, on a worker.
    fn render_on_cpu(&self, renderer: &CpuRenderer, prepared: &mut Self::Prepared) -> Vec<View>;

    /// From views to an output.
    fn finish(
        &self,
        item: usize,
        prepared: Self::Prepared,
        views: &[View],
    ) -> Result<Self::Output, Self::Error>;

    /// Output of a mesh that cannot be rendered.
    fn render_failed(&self, prepared: Self::Prepared, error: &RenderError) -> Self::Output;

    /// Output of a mesh whose processing panicked.
    fn panicked(&self, item: usize, message: String) -> Self::Output;

    /// Runs the device thread. Override it to measure time.
    fn on_device_thread<R>(&self, render: impl FnOnce() -> R) -> R {
        render()
    }
}

/// Renders all meshes of a job with `num_threads` workers and at most `max_bytes` of mesh files in flight;
/// `false` if cancelled. A device that fails is opened again, which is an event.
///
/// # Errors
/// When the device failed and no other can be opened, and as [`run`].
pub(crate) fn render_all<J: MeshJob>(
    job: &J,
    renderer: Renderer,
    options: &RendererOptions,
    num_threads: usize,
    max_bytes: u64,
    cancel: &AtomicBool,
    deliver: &mut dyn FnMut(Delivery<J::Output, RenderError>) -> Result<(), J::Error>,
) -> Result<bool, J::Error> {
    let limits = Limits {
        num_threads,
        // Each worker has one mesh in progress and one queued on either side of the device.
        max_items: 3 * num_threads + renderer.max_in_flight(),
        max_bytes,
    };
    let cpu = renderer.cpu();
    let stages = Stages {
        job,
        cpu: cpu.as_ref(),
    };
    if stages.cpu.is_some() {
        return run(&stages, limits, cancel, deliver);
    }
    let device = |device: &Device<'_, Stages<'_, J>>| -> Result<(), J::Error> {
        let on_event = |event| match event {
            QueueEvent::Rendered {
                mesh: (item, prepared),
                views,
            } => device.rendered(item, prepared, views),
            QueueEvent::Failed {
                mesh: (item, prepared),
                error,
            } => device.done(item, job.render_failed(prepared, &error)),
            QueueEvent::DeviceFailed { error } => device.reporter().report(error),
        };
        let next = |waits| device.next(waits);
        job.on_device_thread(|| run_render_queue(renderer, options, next, on_event))?;
        Ok(())
    };
    run_with_device(&stages, limits, cancel, Some(device), deliver)
}

/// A [`MeshJob`] as stages of the pipeline.
struct Stages<'a, J> {
    job: &'a J,
    /// Set if workers render on the CPU themselves.
    cpu: Option<&'a CpuRenderer>,
}

impl<J: MeshJob> Job for Stages<'_, J> {
    type Prepared = J::Prepared;
    type Rendered = Vec<View>;
    type Output = J::Output;
    /// The device failed.
    type Event = RenderError;
    type Error = J::Error;

    fn num_items(&self) -> usize {
        self.job.num_items()
    }

    fn size_bytes(&self, item: usize) -> u64 {
        self.job.size_bytes(item)
    }

    fn prepare(&self, item: usize, _: &Reporter<'_, Self>) -> Result<Step<J::Prepared, J::Output>, J::Error> {
        let mut prepared = match self.job.prepare(item) {
            Ok(prepared) => prepared,
            Err(output) => return Ok(Step::Done(output)),
        };
        match self.cpu {
            Some(cpu) => {
                let views = self.job.render_on_cpu(cpu, &mut prepared);
                self.job.finish(item, prepared, &views).map(Step::Done)
            }
            None => Ok(Step::Render(prepared)),
        }
    }

    fn finish(&self, item: usize, prepared: J::Prepared, views: Vec<View>) -> Result<J::Output, J::Error> {
        self.job.finish(item, prepared, &views)
    }

    fn panicked(&self, item: usize, message: String) -> Result<J::Output, J::Error> {
        Ok(self.job.panicked(item, message))
    }
}
