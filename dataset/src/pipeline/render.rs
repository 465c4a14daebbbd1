//! Middle stage: one thread owns the renderer and keeps several meshes in flight on the device.

use std::iter;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, Sender};
use tap_render::{FlightEvent, Framed, InFlight, Renderer, draw_in_flight};

use super::prepare::Prepared;
use super::timing::Stage;
use super::{BuildContext, Finished, Rendered, Skip};
use crate::error::{Result, error_chain};
use crate::manifest::SkipReason;

impl InFlight for Prepared {
    fn framed(&self) -> &Framed {
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
        let on_flight_event = |event| match event {
            FlightEvent::Drawn {
                mesh: (object_idx, prepared),
                views,
            } => drop(rendered.send(Rendered {
                object_idx,
                prepared,
                views,
            })),
            FlightEvent::LeftOut {
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
            FlightEvent::DeviceFailed { error } => {
                tracing::warn!(error = error_chain(&error), "the device failed");
            }
        };
        // Waiting for meshes costs no CPU time.
        self.clock.time(Stage::Draw, || {
            draw_in_flight(renderer, &self.options.renderer, next, on_flight_event)
        })?;
        Ok(())
    }
}
