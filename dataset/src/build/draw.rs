//! The middle stage: one thread owns the renderer and keeps several meshes in flight on the device.

use std::iter;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, Sender};
use tap_render::{QueueEvent, QueuedJob, RenderJob, Renderer, run_render_queue};

use super::prepare::{Prepared, in_full};
use super::timing::Stage;
use super::{Context, Drawn, Finished, Skip};
use crate::{Result, SkipReason};

impl QueuedJob for Prepared {
    fn job(&self) -> &RenderJob {
        &self.framed
    }
}

impl Context<'_> {
    /// Draws until no worker can send a mesh any more. An object that can't be drawn is skipped.
    ///
    /// # Errors
    /// When the device has failed and no new renderer can be had.
    pub(super) fn draw(
        self,
        renderer: Renderer,
        prepared: &Receiver<(usize, Prepared)>,
        drawn: &Sender<Drawn>,
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
        // Either receiver is gone only when the build is stopping.
        let tell = |event| match event {
            QueueEvent::Rendered {
                mesh: (object_idx, prepared),
                views,
            } => drop(drawn.send(Drawn {
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
                    message: in_full(&error),
                    source_sha256: Some(prepared.source_sha256),
                }),
            })),
            QueueEvent::DeviceFailed { error } => {
                tracing::warn!(error = in_full(&error), "the device failed");
            }
        };
        // Waiting for meshes takes none of the CPU's time.
        self.clock.time(Stage::Draw, || {
            run_render_queue(renderer, &self.options.renderer, next, tell)
        })?;
        Ok(())
    }
}
