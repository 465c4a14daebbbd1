//! The render queue, [`run_render_queue`]: many meshes through one renderer, several in flight at a time, with recovery
//! from a failed device. In a pipeline it stands between the stages that prepare jobs and those that encode views.

use std::collections::VecDeque;
use std::iter;
use std::time::Duration;

use crate::error::RenderError;
use crate::job::RenderJob;
use crate::renderer::{PendingViews, Renderer, RendererOptions};
use crate::view::View;

/// A [`RenderJob`] in the queue, with whatever the caller keeps beside it.
pub trait QueuedJob {
    /// The job to draw.
    fn job(&self) -> &RenderJob;

    /// Runs one stage. Override it to measure time.
    fn timed<R>(&mut self, _step: QueueStage, work: impl FnOnce(&RenderJob) -> R) -> R {
        work(self.job())
    }

    /// Called with the device time of the job, if the device reports it ([`Renderer::device_time`]).
    fn record_device_time(&mut self, _device_time: Option<Duration>) {}
}

impl<Key, Mesh: QueuedJob> QueuedJob for (Key, Mesh) {
    fn job(&self) -> &RenderJob {
        self.1.job()
    }

    fn timed<R>(&mut self, step: QueueStage, work: impl FnOnce(&RenderJob) -> R) -> R {
        self.1.timed(step, work)
    }

    fn record_device_time(&mut self, device_time: Option<Duration>) {
        self.1.record_device_time(device_time);
    }
}

/// The stages of a job in the queue, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueStage {
    /// Upload and submission to the device.
    Submit,
    /// Waiting for the device.
    Draw,
    /// Reading the views back.
    ReadBack,
}

/// What [`run_render_queue`] reports.
#[derive(Debug)]
pub enum QueueEvent<Mesh> {
    /// A job is done.
    Rendered {
        /// The queued job.
        mesh: Mesh,
        /// In the order of the rig's poses.
        views: Vec<View>,
    },
    /// A job cannot be drawn.
    Failed {
        /// The queued job.
        mesh: Mesh,
        /// Why it cannot be drawn.
        error: RenderError,
    },
    /// The device failed and is opened again.
    DeviceFailed {
        /// What the device reported.
        error: RenderError,
    },
}

/// Draws jobs in order until there are no more.
///
/// `next` returns the next job; its argument says whether to wait for one. `None` to a call that waits means that there
/// are no more.
///
/// When the device fails, a new renderer is opened and the jobs in flight are drawn again one by one; one that fails
/// again is reported as failed. So a mesh that crashes a driver costs only itself.
///
/// # Errors
///
/// As [`Renderer::try_new`], if the device has failed and no other can be opened.
pub fn run_render_queue<Mesh: QueuedJob>(
    mut renderer: Renderer,
    options: &RendererOptions,
    mut next: impl FnMut(bool) -> Option<Mesh>,
    mut tell: impl FnMut(QueueEvent<Mesh>),
) -> Result<(), RenderError> {
    let mut pending: VecDeque<(Mesh, PendingViews)> = VecDeque::new();
    loop {
        let has_room = pending.len() < renderer.max_in_flight();
        // With jobs in flight, `next` does not wait.
        let (error, lost_jobs) = if let Some(mut mesh) = has_room.then(|| next(pending.is_empty())).flatten()
        {
            match mesh.timed(QueueStage::Submit, |job| renderer.submit(job)) {
                Ok(views) => {
                    pending.push_back((mesh, views));
                    continue;
                }
                Err(error @ RenderError::Object(_)) => {
                    tell(QueueEvent::Failed { mesh, error });
                    continue;
                }
                Err(error) => (error, drain_jobs(&mut pending).chain([mesh]).collect()),
            }
        } else {
            let Some((mut mesh, views)) = pending.pop_front() else {
                return Ok(());
            };
            let waited = mesh.timed(QueueStage::Draw, |_| renderer.wait(&views));
            let finished = waited.and_then(|()| mesh.timed(QueueStage::ReadBack, |_| renderer.finish(views)));
            match finished {
                Ok(views) => {
                    mesh.record_device_time(renderer.device_time());
                    tell(QueueEvent::Rendered { mesh, views });
                    continue;
                }
                Err(error) => (error, iter::once(mesh).chain(drain_jobs(&mut pending)).collect()),
            }
        };
        tell(QueueEvent::DeviceFailed { error });
        renderer = retry_lost(renderer, options, lost_jobs, &mut tell)?;
    }
}

/// All pending jobs; their views are dropped.
fn drain_jobs<Mesh>(pending: &mut VecDeque<(Mesh, PendingViews)>) -> impl Iterator<Item = Mesh> {
    pending.drain(..).map(|(mesh, _)| mesh)
}

/// Draws the jobs that a failed device has lost, one at a time.
fn retry_lost<Mesh: QueuedJob>(
    failed: Renderer,
    options: &RendererOptions,
    lost_jobs: Vec<Mesh>,
    tell: &mut impl FnMut(QueueEvent<Mesh>),
) -> Result<Renderer, RenderError> {
    drop(failed);
    let mut renderer = Renderer::try_new(options)?;
    for mut mesh in lost_jobs {
        let drawn = mesh.timed(QueueStage::Draw, |job| {
            let pending = renderer.submit(job)?;
            renderer.finish(pending)
        });
        match drawn {
            Ok(views) => {
                mesh.record_device_time(renderer.device_time());
                tell(QueueEvent::Rendered { mesh, views });
            }
            Err(error) => {
                let is_device_lost = !matches!(error, RenderError::Object(_));
                tell(QueueEvent::Failed { mesh, error });
                if is_device_lost {
                    drop(renderer);
                    renderer = Renderer::try_new(options)?;
                }
            }
        }
    }
    Ok(renderer)
}
