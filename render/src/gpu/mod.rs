//! Views drawn by a device, through wgpu: one submission a mesh, and the device is kept busy in between.
//!
//! [`GpuRenderer::submit`] uploads a mesh, draws its views into an atlas and asks for them back, all in one submission,
//! and does not wait. It is drawn which triangle each sample sees, and a second pass colors that, so that each pixel looks
//! at each of its triangles once; white faces are, with one sample, colored as they are drawn.
//! [`GpuRenderer::finish`] waits for that submission alone. Whoever submits the next mesh before finishing the last one
//! keeps the device and the CPU at work at the same time.
//!
//! Memory is bounded: one atlas for all, and for each mesh in flight the buffers of a [`Slot`], which are used again
//! for later meshes and grow to the largest.

mod adapter;
mod device_node;
mod frame_resources;
mod pipeline;
mod pipeline_key;
mod readback;
mod target;
mod timestamp;

use std::borrow::Cow;
use std::hint;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use tap_shaders::ViewUniform;

pub(crate) use adapter::list_devices;
pub use adapter::{AdapterChoice, AdapterKind, AdapterReport};
pub(crate) use device_node::may_have_gpu;

use crate::camera::Pose;
use crate::camera::ViewMatrices;
use crate::error::RenderError;
use crate::job::{DrawnBy, Draws, Framed};
use crate::scene::view_uniform;
use crate::view::View;
use adapter::Gpu;
use frame_resources::Slot;
use pipeline::Pipelines;
use pipeline_key::Plan;
use readback::Layout;
use target::{Target, Tiling};
use timestamp::DeviceClock;

/// Draws views on a device.
#[derive(Debug)]
pub(crate) struct GpuRenderer {
    gpu: Gpu,
    max_in_flight: usize,
    /// Views that are drawn in one pass, at most.
    views_of_pass: usize,
    /// One for each plan seen so far.
    pipelines: Vec<Pipelines>,
    target: Option<Target>,
    idle: Vec<Slot>,
    /// How long it worked on the mesh that was finished last.
    device_time: Option<Duration>,
    /// Cloned into each slot in use, so that a dropped [`PendingOnGpu`] is counted out.
    in_flight: Arc<()>,
}

/// Views that the device has been told to draw.
#[derive(Debug)]
pub(crate) struct PendingOnGpu {
    slot: Slot,
    in_flight: Arc<()>,
    submission: wgpu::SubmissionIndex,
    mapped: Receiver<Result<(), wgpu::BufferAsyncError>>,
    layout: Layout,
    views: Vec<(Pose, ViewMatrices)>,
}

impl GpuRenderer {
    pub(crate) fn try_new(adapter: &AdapterChoice, max_in_flight: usize) -> Result<Self, RenderError> {
        Ok(Self::on(Gpu::try_new(adapter)?, max_in_flight))
    }

    /// On the best GPU; `None` if there is none.
    pub(crate) fn try_on_gpu(max_in_flight: usize) -> Result<Option<Self>, RenderError> {
        let gpu = if may_have_gpu() { Gpu::try_best()? } else { None };
        Ok(gpu.map(|gpu| Self::on(gpu, max_in_flight)))
    }

    fn on(gpu: Gpu, max_in_flight: usize) -> Self {
        let is_software = gpu.report.kind == AdapterKind::Cpu;
        if is_software {
            keep_freed_memory();
        }
        Self {
            gpu,
            max_in_flight,
            // A software driver notes the triangles of a pass before it draws them: those of one view stay in its caches.
            views_of_pass: if is_software { 1 } else { usize::MAX },
            pipelines: Vec::new(),
            target: None,
            idle: Vec::new(),
            device_time: None,
            in_flight: Arc::new(()),
        }
    }

    pub(crate) fn adapter(&self) -> &AdapterReport {
        &self.gpu.report
    }

    pub(crate) fn max_in_flight(&self) -> usize {
        self.max_in_flight
    }

    pub(crate) fn device_time(&self) -> Option<Duration> {
        self.device_time
    }

    pub(crate) fn drawn_by(&self) -> DrawnBy {
        if self.gpu.report.kind == AdapterKind::Cpu {
            DrawnBy::SoftwareDriver
        } else {
            DrawnBy::Gpu
        }
    }

    /// Hands all views of a mesh to the device, in one submission, and does not wait for them.
    pub(crate) fn submit(&mut self, framed: &Framed) -> Result<PendingOnGpu, RenderError> {
        if Arc::strong_count(&self.in_flight) > self.max_in_flight {
            return Err(RenderError::TooManyInFlight {
                limit: self.max_in_flight,
            });
        }
        self.gpu.check()?;
        let draws = match &framed.draws {
            Some(draws) => Cow::Borrowed(draws),
            None => Cow::Owned(Draws::try_new(framed, self.drawn_by())?),
        };
        let limits = self.gpu.device.limits();
        let recipe = &framed.recipe;
        let tiling = Tiling::new(recipe.size_px, framed.views.len().min(self.views_of_pass));
        let uniforms = uniforms(framed, tiling);
        let plan = Plan::new(framed, uniforms.first().expect("a rig has a pose"));
        let layout = Layout::new(
            plan.target,
            tiling,
            framed.views.len(),
            recipe.lighting.background,
        );
        check_sizes(framed, &draws, &layout, &limits)?;
        let device = &self.gpu.device;
        let known = self.pipelines.iter().position(|pipelines| pipelines.plan == plan);
        let pipelines_idx = known.unwrap_or_else(|| {
            self.pipelines.push(Pipelines::new(device, plan));
            self.pipelines.len() - 1
        });
        let pipelines = &self.pipelines[pipelines_idx];
        // A target that does not fit goes before its successor is made, so that there are never two.
        let fitting = self
            .target
            .take()
            .filter(|target| target.fits(plan.target, tiling));
        let target = fitting.unwrap_or_else(|| Target::new(device, pipelines, tiling));
        let target = self.target.insert(target);

        let mut slot = self.idle.pop().unwrap_or_else(|| Slot::new(device));
        slot.upload(&self.gpu, &uniforms, &framed.scene, &draws, pipelines, &layout);
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        slot.encode(&mut encoder, device, framed, &draws, &layout, pipelines, target);
        let submission = self.gpu.queue.submit([encoder.finish()]);
        let (sender, mapped) = sync_channel(1);
        slot.readback
            .buffer
            .map_async(wgpu::MapMode::Read, ..slot.read_bytes, move |result| {
                // Whoever dropped the pending views wants no answer.
                let _ = sender.send(result);
            });
        self.gpu.check()?;
        Ok(PendingOnGpu {
            slot,
            in_flight: Arc::clone(&self.in_flight),
            submission,
            mapped,
            layout,
            views: framed.views.clone(),
        })
    }

    /// Waits until the device has done what was submitted for one mesh.
    pub(crate) fn wait(&self, pending: &PendingOnGpu) -> Result<(), RenderError> {
        let wait = wgpu::PollType::Wait {
            submission_index: Some(pending.submission.clone()),
            timeout: None,
        };
        let waited = self.gpu.device.poll(wait);
        // What the device complained of says more than that the wait failed.
        self.gpu.check()?;
        waited.map_err(|source| RenderError::Poll { source })?;
        Ok(())
    }

    /// Waits for the views of one mesh.
    pub(crate) fn finish(&mut self, pending: PendingOnGpu) -> Result<Vec<View>, RenderError> {
        self.wait(&pending)?;
        let PendingOnGpu {
            slot,
            in_flight,
            submission: _,
            mapped,
            layout,
            views,
        } = pending;
        let mapped = mapped.recv().map_err(|_| RenderError::DeviceLost {
            reason: "no answer".to_owned(),
        })?;
        mapped.map_err(|source| RenderError::Readback { source })?;
        let bytes = slot
            .readback
            .buffer
            .get_mapped_range(..slot.read_bytes)
            .map_err(|source| RenderError::MapRange { source })?;
        let views = views
            .into_iter()
            .enumerate()
            .map(|(view_idx, (pose, matrices))| layout.decode(&bytes, view_idx, pose, matrices))
            .collect();
        self.device_time = slot.clock.as_ref().map(|_| {
            let times = bytes.len() - DeviceClock::NUM_BYTES as usize;
            timestamp::elapsed(&bytes[times..], self.gpu.queue.get_timestamp_period())
        });
        drop(bytes);
        slot.readback.buffer.unmap();
        self.idle.push(slot);
        drop(in_flight);
        Ok(views)
    }
}

/// A software driver takes and frees megabytes for each view. glibc hands them back to the kernel, to be cleared and mapped
/// anew, until it has seen a block of `SEEN_BYTES` go: from then on it keeps what is smaller.
fn keep_freed_memory() {
    /// The largest that it learns from is 32 MiB.
    const SEEN_BYTES: usize = 30 << 20;
    drop(hint::black_box(Vec::<u8>::with_capacity(SEEN_BYTES)));
}

fn uniforms(framed: &Framed, tiling: Tiling) -> Vec<ViewUniform> {
    let Framed { recipe, scene, .. } = framed;
    let uniform = |(view_idx, (_, matrices)): (usize, &(Pose, ViewMatrices))| {
        view_uniform(
            matrices,
            &recipe.lighting,
            scene.has_own_surface,
            recipe.size_px,
            tiling.origin_px(view_idx % tiling.num_tiles()),
        )
    };
    framed.views.iter().enumerate().map(uniform).collect()
}

fn check_sizes(
    framed: &Framed,
    draws: &Draws,
    layout: &Layout,
    limits: &wgpu::Limits,
) -> Result<(), RenderError> {
    let scene = &framed.scene;
    let stored = [
        size_of_val(&*scene.points),
        size_of_val(&*draws.triangles),
        size_of_val(&*scene.corners),
        size_of_val(&*scene.textures),
    ];
    let stored_bytes = stored.into_iter().max().unwrap_or_default() as u64;
    let drawn_bytes = size_of_val(&*draws.vertices).max(size_of_val(&*draws.indices)) as u64;
    for (needed_bytes, limit_bytes) in [
        (
            stored_bytes,
            limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
        ),
        (drawn_bytes, limits.max_buffer_size),
    ] {
        if needed_bytes > limit_bytes {
            return Err(RenderError::MeshTooLarge {
                num_triangles: scene.triangles.len(),
                needed_bytes,
                limit_bytes,
            });
        }
    }
    let (needed_bytes, limit_bytes) = (layout.num_bytes(), limits.max_buffer_size);
    if needed_bytes > limit_bytes {
        return Err(RenderError::ViewsTooLarge {
            num_views: framed.views.len(),
            needed_bytes,
            limit_bytes,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::recipe::{Channels, RenderRecipe};

    /// A GPU draws all views in one pass, a software driver one by one.
    #[test]
    fn pictures_do_not_depend_on_how_many_views_share_a_pass() {
        let mut renderer = GpuRenderer::try_new(&AdapterChoice::Software, 1).unwrap();
        for (samples, channels) in [(1, Channels::default()), (1, Channels::ALL), (4, Channels::ALL)] {
            let recipe = RenderRecipe {
                size_px: 50,
                samples,
                channels,
                ..RenderRecipe::default()
            };
            let framed = Framed::of_axes(&recipe, DrawnBy::SoftwareDriver);
            let mut drawn_in_passes_of = |views_of_pass| {
                renderer.views_of_pass = views_of_pass;
                let pending = renderer.submit(&framed).unwrap();
                renderer.finish(pending).unwrap()
            };
            let one_by_one = drawn_in_passes_of(1);
            for views_of_pass in [5, usize::MAX] {
                assert!(
                    drawn_in_passes_of(views_of_pass) == one_by_one,
                    "{views_of_pass} views in a pass, {samples} samples"
                );
            }
        }
    }
}
