//! Middle stage: one thread owns the renderer and keeps several meshes in flight on the device.

use std::iter;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, Sender};
use tap_render::{QueueEvent, QueuedJob, RenderJob, Renderer, run_render_queue};

use super::prepare::Prepared;
use super::timing::Stage;
use super::{BuildContext, Finished, Rendered, Skip};
use crate::error::{Result, error_chain};
use crate::manifest::SkipReason;

impl QueuedJob for Prepared {
    fn job(&self) -> &RenderJob {
        &self.framed
    }
}

impl BuildContext<'_> {
    /// Renders until all senders are dropped. Objects that fail are skipped.
    ///
    /// # Errors
    /// When the device has failed and no new renderer can be created.
    pub(super) fn render(
        self,
        renderer: Renderer,
        prepared: &Receiver<(usize, Prepared)>,
        rendered: &Sender<Rendered>,
        finished: &Sender<Finished>,
    ) -> Result<()> {
        let next = |waits: bool| {
            let receive = || {
                if waits {
                    prepared.recv().ok()
                } else {
                    prepared.try_recv().ok()
                }
            };
            iter::from_fn(receive).find(|_| !self.stop.load(Ordering::Relaxed))
        };
        // A receiver is dropped only when the build stops.
        let on_event = |event| match event {
            QueueEvent::Rendered {
                mesh: (object_idx, prepared),
                views,
            } => drop(rendered.send(Rendered {
                object_idx,
                prepared,
                views,
            })),
            QueueEvent::Failed {
                mesh: (object_idx, prepared),
                error,
            } => drop(finished.send(Finished {
                object_idx,
                outcome: Err(Skip {
                    reason: SkipReason::RenderFailed,
                    message: error_chain(&error),
                    source_sha256: Some(prepared.source_sha256),
                }),
            })),
            QueueEvent::DeviceFailed { error } => {
                tracing::warn!(error = error_chain(&error), "the device failed");
            }
        };
        // Waiting for meshes costs no CPU time.
        self.clock.time(Stage::Draw, || {
            run_render_queue(renderer, &self.options.renderer, next, on_event)
        })?;
        Ok(())
    }
}
