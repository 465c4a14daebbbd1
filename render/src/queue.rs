//! [`draw_in_flight`]: many meshes through one renderer, several of them on the device at a time, and drawn again where it
//! fails. It is one stage of a pipeline, between those that frame meshes and those that encode views.

use std::collections::VecDeque;
use std::iter;
use std::time::Duration;

use crate::error::RenderError;
use crate::job::Framed;
use crate::renderer::{PendingViews, Renderer, RendererOptions};
use crate::view::View;

/// A framed mesh, with whatever its owner keeps beside it.
pub trait InFlight {
    /// What is drawn.
    fn framed(&self) -> &Framed;

    /// Does a step of its drawing; an owner who wants to know how long that takes looks at a clock before and after.
    fn timed<R>(&mut self, _step: FlightStep, work: impl FnOnce(&Framed) -> R) -> R {
        work(self.framed())
    }

    /// Is told how long the device worked on it, if it says ([`Renderer::device_time`]).
    fn worked_on(&mut self, _device_time: Option<Duration>) {}
}

impl<Key, Mesh: InFlight> InFlight for (Key, Mesh) {
    fn framed(&self) -> &Framed {
        self.1.framed()
    }

    fn timed<R>(&mut self, step: FlightStep, work: impl FnOnce(&Framed) -> R) -> R {
        self.1.timed(step, work)
    }

    fn worked_on(&mut self, device_time: Option<Duration>) {
        self.1.worked_on(device_time);
    }
}

/// What a mesh goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlightStep {
    /// It is handed to the device.
    Submit,
    /// It is waited for.
    Draw,
    /// Its views are read back.
    ReadBack,
}

/// What [`draw_in_flight`] tells of.
#[derive(Debug)]
pub enum FlightEvent<Mesh> {
    /// A mesh has its views.
    Drawn {
        /// Which.
        mesh: Mesh,
        /// Of it.
        views: Vec<View>,
    },
    /// A mesh can't be drawn.
    LeftOut {
        /// Which.
        mesh: Mesh,
        /// Why.
        error: RenderError,
    },
    /// The device has failed, and is set up anew.
    DeviceFailed {
        /// How.
        error: RenderError,
    },
}

/// Draws meshes, in their order, until there are no more.
///
/// `next` gives the next mesh and is told whether to wait for it; when it was waited for and there is none, that was the last.
///
/// When the device fails, a new renderer is set up and the meshes in flight are drawn again one by one; the one that fails
/// again is left out. So a mesh that crashes a driver costs itself alone.
///
/// # Errors
///
/// As [`Renderer::try_new`], when the device has failed and no other can be had.
pub fn draw_in_flight<Mesh: InFlight>(
    mut renderer: Renderer,
    options: &RendererOptions,
    mut next: impl FnMut(bool) -> Option<Mesh>,
    mut tell: impl FnMut(FlightEvent<Mesh>),
) -> Result<(), RenderError> {
    let mut pending: VecDeque<(Mesh, PendingViews)> = VecDeque::new();
    loop {
        let has_room = pending.len() < renderer.max_in_flight();
        // With something in flight there is no waiting for more.
        let (error, lost) = if let Some(mut mesh) = has_room.then(|| next(pending.is_empty())).flatten() {
            match mesh.timed(FlightStep::Submit, |framed| renderer.submit(framed)) {
                Ok(views) => {
                    pending.push_back((mesh, views));
                    continue;
                }
                Err(error) if is_of_the_mesh(&error) => {
                    tell(FlightEvent::LeftOut { mesh, error });
                    continue;
                }
                Err(error) => (error, meshes(&mut pending).chain([mesh]).collect()),
            }
        } else {
            let Some((mut mesh, views)) = pending.pop_front() else {
                return Ok(());
            };
            let waited = mesh.timed(FlightStep::Draw, |_| renderer.wait(&views));
            let finished = waited.and_then(|()| mesh.timed(FlightStep::ReadBack, |_| renderer.finish(views)));
            match finished {
                Ok(views) => {
                    mesh.worked_on(renderer.device_time());
                    tell(FlightEvent::Drawn { mesh, views });
                    continue;
                }
                Err(error) => (error, iter::once(mesh).chain(meshes(&mut pending)).collect()),
            }
        };
        tell(FlightEvent::DeviceFailed { error });
        renderer = redraw(renderer, options, lost, &mut tell)?;
    }
}

/// All meshes that are pending; their views are lost.
fn meshes<Mesh>(pending: &mut VecDeque<(Mesh, PendingViews)>) -> impl Iterator<Item = Mesh> {
    pending.drain(..).map(|(mesh, _)| mesh)
}

/// Draws what a failed device has lost, each mesh alone.
fn redraw<Mesh: InFlight>(
    failed: Renderer,
    options: &RendererOptions,
    lost: Vec<Mesh>,
    tell: &mut impl FnMut(FlightEvent<Mesh>),
) -> Result<Renderer, RenderError> {
    drop(failed);
    let mut renderer = Renderer::try_new(options)?;
    for mut mesh in lost {
        let drawn = mesh.timed(FlightStep::Draw, |framed| {
            let pending = renderer.submit(framed)?;
            renderer.finish(pending)
        });
        match drawn {
            Ok(views) => {
                mesh.worked_on(renderer.device_time());
                tell(FlightEvent::Drawn { mesh, views });
            }
            Err(error) => {
                let is_device_lost = !is_of_the_mesh(&error);
                tell(FlightEvent::LeftOut { mesh, error });
                if is_device_lost {
                    drop(renderer);
                    renderer = Renderer::try_new(options)?;
                }
            }
        }
    }
    Ok(renderer)
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
