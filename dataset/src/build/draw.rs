//! The middle stage: one thread owns the renderer and keeps several meshes in flight on the device.

use std::collections::VecDeque;

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use tap_render::{PendingViews, RenderError, Renderer};

use super::prepare::{Prepared, in_full};
use super::timing::Stage;
use super::{Context, Drawn, Finished, Skip};
use crate::{Result, SkipReason};
use std::sync::atomic::Ordering;

type Pending = VecDeque<(usize, Prepared, PendingViews)>;

impl Context<'_> {
    /// Draws until no worker can send a mesh any more.
    ///
    /// When the device fails, a new renderer is set up and the meshes in flight are drawn again one by one; the one
    /// that fails again is skipped. So a mesh that crashes a driver costs itself alone.
    ///
    /// # Errors
    /// When no new renderer can be had.
    pub(super) fn draw(
        self,
        mut renderer: Renderer,
        prepared: &Receiver<(usize, Prepared)>,
        drawn: &Sender<Drawn>,
        finished: &Sender<Finished>,
    ) -> Result<()> {
        let mut pending = Pending::new();
        loop {
            while pending.len() < renderer.max_in_flight() {
                // With something in flight there is no waiting for more.
                let next = if pending.is_empty() {
                    prepared.recv().map_err(|_| TryRecvError::Disconnected)
                } else {
                    prepared.try_recv()
                };
                let (object_idx, object) = match next {
                    Ok(next) => next,
                    Err(TryRecvError::Disconnected) if pending.is_empty() => return Ok(()),
                    Err(_) => break,
                };
                if self.stop.load(Ordering::Relaxed) {
                    continue;
                }
                match self.clock.time(Stage::Draw, || renderer.submit(&object.framed)) {
                    Ok(views) => pending.push_back((object_idx, object, views)),
                    Err(e) if is_of_the_mesh(&e) => skip(object_idx, &object, &e, finished),
                    Err(e) => {
                        tracing::warn!(error = in_full(&e), "the device failed");
                        let lost = pending
                            .drain(..)
                            .map(|(object_idx, object, _)| (object_idx, object));
                        let lost: Vec<_> = lost.chain([(object_idx, object)]).collect();
                        renderer = self.redraw(renderer, lost, drawn, finished)?;
                    }
                }
            }
            let Some((object_idx, object, views)) = pending.pop_front() else {
                continue;
            };
            match self.clock.time(Stage::Draw, || renderer.finish(views)) {
                // The receiver is gone when the build is stopping.
                Ok(views) => drop(drawn.send(Drawn {
                    object_idx,
                    prepared: object,
                    views,
                })),
                Err(e) => {
                    tracing::warn!(error = in_full(&e), "the device failed");
                    let lost = pending
                        .drain(..)
                        .map(|(object_idx, object, _)| (object_idx, object));
                    let lost: Vec<_> = [(object_idx, object)].into_iter().chain(lost).collect();
                    renderer = self.redraw(renderer, lost, drawn, finished)?;
                }
            }
        }
    }

    /// Draws what a failed device has lost, each object alone.
    fn redraw(
        self,
        failed: Renderer,
        lost: Vec<(usize, Prepared)>,
        drawn: &Sender<Drawn>,
        finished: &Sender<Finished>,
    ) -> Result<Renderer> {
        drop(failed);
        let mut renderer = Renderer::try_new(&self.options.renderer)?;
        for (object_idx, prepared) in lost {
            let views = renderer
                .submit(&prepared.framed)
                .and_then(|pending| renderer.finish(pending));
            match views {
                Ok(views) => drop(drawn.send(Drawn {
                    object_idx,
                    prepared,
                    views,
                })),
                Err(e) => {
                    skip(object_idx, &prepared, &e, finished);
                    if !is_of_the_mesh(&e) {
                        drop(renderer);
                        renderer = Renderer::try_new(&self.options.renderer)?;
                    }
                }
            }
        }
        Ok(renderer)
    }
}

fn skip(object_idx: usize, object: &Prepared, error: &RenderError, finished: &Sender<Finished>) {
    let skip = Skip {
        reason: SkipReason::RenderFailed,
        message: in_full(error),
        source_sha256: Some(object.source_sha256.clone()),
    };
    let _ = finished.send(Finished {
        object_idx,
        outcome: Err(skip),
    });
}

/// Is the device still of use after this error?
fn is_of_the_mesh(error: &RenderError) -> bool {
    matches!(
        error,
        RenderError::MeshTooLarge { .. }
            | RenderError::ViewsTooLarge { .. }
            | RenderError::Unframeable { .. }
    )
}
