//! The wgpu backend: one submission per mesh, pipelined with the CPU.
//!
//! [`GpuRenderer::submit`] uploads a mesh, draws its views into an atlas and copies them to a readback buffer, all in
//! one submission, without waiting. A geometry pass writes a visibility buffer and a resolve pass shades it, so that
//! each pixel shades each of its triangles once. White faces at one sample per pixel are forward-shaded instead.
//! [`GpuRenderer::finish`] waits for that submission alone. A caller that submits the next mesh before finishing the
//! last one keeps both device and CPU busy.
//!
//! Memory is bounded by one atlas, plus the [`FrameResources`] of each mesh in flight, which are reused and grow to the
//! largest mesh.

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
pub(crate) use device_node::may_have_gpu;

use crate::adapter::{AdapterChoice, AdapterKind, AdapterReport};
use crate::camera::{Pose, ViewMatrices};
use crate::error::{DeviceError, ObjectError, RenderError};
use crate::job::{BackendKind, DrawBuffers, RenderJob};
use crate::scene::view_uniform;
use crate::view::View;
use adapter::Gpu;
use frame_resources::FrameResources;
use pipeline::Pipelines;
use pipeline_key::PipelineKey;
use readback::ReadbackLayout;
use target::{Atlas, Target};
use timestamp::TimestampQueries;

/// Draws views on a device.
#[derive(Debug)]
pub(crate) struct GpuRenderer {
    gpu: Gpu,
    max_in_flight: usize,
    /// Most views that are drawn in one pass.
    views_per_pass: usize,
    /// A cache, by [`PipelineKey`].
    pipelines: Vec<Pipelines>,
    target: Option<Target>,
    idle: Vec<FrameResources>,
    /// Device time of the mesh that was finished last.
    device_time: Option<Duration>,
    /// Reference count of pending meshes: each holds a clone, so dropping a [`PendingGpuViews`] releases its place.
    in_flight: Arc<()>,
}

/// Views that were submitted to the device.
#[derive(Debug)]
pub(crate) struct PendingGpuViews {
    frame: FrameResources,
    in_flight: Arc<()>,
    submission: wgpu::SubmissionIndex,
    mapped: Receiver<Result<(), wgpu::BufferAsyncError>>,
    layout: ReadbackLayout,
    views: Vec<(Pose, ViewMatrices)>,
    /// Drawn pixels per side of a pixel.
    supersampling: u32,
}

impl GpuRenderer {
    pub(crate) fn try_new(adapter: &AdapterChoice, max_in_flight: usize) -> Result<Self, DeviceError> {
        Ok(Self::on(Gpu::try_new(adapter)?, max_in_flight))
    }

    /// On the preferred GPU; `None` if there is none.
    pub(crate) fn try_best_gpu(max_in_flight: usize) -> Result<Option<Self>, DeviceError> {
        let gpu = if may_have_gpu() { Gpu::try_best()? } else { None };
        Ok(gpu.map(|gpu| Self::on(gpu, max_in_flight)))
    }

    fn on(gpu: Gpu, max_in_flight: usize) -> Self {
        let is_software = gpu.report.kind == AdapterKind::Cpu;
        if is_software {
            warm_up_allocator();
        }
        Self {
            gpu,
            max_in_flight,
            // A software driver bins all triangles of a pass before it draws them; those of one view fit its caches.
            views_per_pass: if is_software { 1 } else { usize::MAX },
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

    pub(crate) fn backend_kind(&self) -> BackendKind {
        if self.gpu.report.kind == AdapterKind::Cpu {
            BackendKind::SoftwareDriver
        } else {
            BackendKind::Gpu
        }
    }

    /// Submits all views of a mesh without waiting for them.
    pub(crate) fn submit(&mut self, job: &RenderJob) -> Result<PendingGpuViews, RenderError> {
        if Arc::strong_count(&self.in_flight) > self.max_in_flight {
            return Err(RenderError::TooManyInFlight {
                limit: self.max_in_flight,
            });
        }
        self.gpu.check()?;
        let draw_buffers = match &job.draw_buffers {
            Some(draw_buffers) => Cow::Borrowed(draw_buffers),
            None => Cow::Owned(DrawBuffers::try_new(job, self.backend_kind())?),
        };
        let limits = self.gpu.device.limits();
        let recipe = &job.recipe;
        let atlas = Atlas::new(recipe.size_px, job.views.len().min(self.views_per_pass));
        let uniforms = uniforms(job, atlas);
        let key = PipelineKey::new(job, uniforms.first().expect("a rig has a pose"));
        let layout = ReadbackLayout::new(key.target, atlas, job.views.len(), recipe.lighting.background);
        check_sizes(job, &draw_buffers, &layout, &limits)?;
        let device = &self.gpu.device;
        let known = self.pipelines.iter().position(|pipelines| pipelines.key == key);
        let pipelines_idx = known.unwrap_or_else(|| {
            self.pipelines.push(Pipelines::new(device, key));
            self.pipelines.len() - 1
        });
        let pipelines = &self.pipelines[pipelines_idx];
        // The old target is dropped before a new one is made, so that there are never two.
        let fitting = self.target.take().filter(|target| target.fits(key.target, atlas));
        let target = fitting.unwrap_or_else(|| Target::new(device, pipelines, atlas));
        let target = self.target.insert(target);

        let mut frame = self.idle.pop().unwrap_or_else(|| FrameResources::new(device));
        frame.upload(
            &self.gpu,
            &uniforms,
            &job.scene,
            &draw_buffers,
            pipelines,
            &layout,
        );
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        frame.encode(
            &mut encoder,
            device,
            job,
            &draw_buffers,
            &layout,
            pipelines,
            target,
        );
        let submission = self.gpu.queue.submit([encoder.finish()]);
        let (sender, mapped) = sync_channel(1);
        frame
            .readback
            .buffer
            .map_async(wgpu::MapMode::Read, ..frame.read_bytes, move |result| {
                // The receiver is gone if the pending views were dropped.
                let _ = sender.send(result);
            });
        self.gpu.check()?;
        Ok(PendingGpuViews {
            frame,
            in_flight: Arc::clone(&self.in_flight),
            submission,
            mapped,
            layout,
            views: job.views.clone(),
            supersampling: job.supersampling,
        })
    }

    /// Waits until the device has finished a submission.
    pub(crate) fn wait(&self, pending: &PendingGpuViews) -> Result<(), DeviceError> {
        let wait = wgpu::PollType::Wait {
            submission_index: Some(pending.submission.clone()),
            timeout: None,
        };
        let waited = self.gpu.device.poll(wait);
        // A device error says more than a failed wait.
        self.gpu.check()?;
        waited.map_err(|source| DeviceError::Poll { source })?;
        Ok(())
    }

    /// Waits for the views of a mesh and decodes them.
    pub(crate) fn finish(&mut self, pending: PendingGpuViews) -> Result<Vec<View>, DeviceError> {
        self.wait(&pending)?;
        let PendingGpuViews {
            frame,
            in_flight,
            submission: _,
            mapped,
            layout,
            views,
            supersampling,
        } = pending;
        let mapped = mapped.recv().map_err(|_| DeviceError::Lost {
            reason: "no answer".to_owned(),
        })?;
        mapped.map_err(|source| DeviceError::Readback { source })?;
        let bytes = frame
            .readback
            .buffer
            .get_mapped_range(..frame.read_bytes)
            .map_err(|source| DeviceError::MapRange { source })?;
        let views = views
            .into_iter()
            .enumerate()
            .map(|(view_idx, (pose, matrices))| {
                let view = layout.decode(&bytes, view_idx, pose, matrices);
                view.downsample(supersampling)
            })
            .collect();
        self.device_time = frame.timestamps.as_ref().map(|_| {
            let times = bytes.len() - TimestampQueries::NUM_BYTES as usize;
            timestamp::elapsed(&bytes[times..], self.gpu.queue.get_timestamp_period())
        });
        drop(bytes);
        frame.readback.buffer.unmap();
        self.idle.push(frame);
        drop(in_flight);
        Ok(views)
    }
}

/// A software driver allocates and frees megabytes per view. glibc returns such blocks to the kernel, which clears and
/// maps them anew, until a block of `BLOCK_BYTES` has been freed: from then on it keeps smaller ones.
fn warm_up_allocator() {
    /// The threshold adapts to blocks up to 32 MiB.
    const BLOCK_BYTES: usize = 30 << 20;
    drop(hint::black_box(Vec::<u8>::with_capacity(BLOCK_BYTES)));
}

fn uniforms(job: &RenderJob, atlas: Atlas) -> Vec<ViewUniform> {
    let RenderJob { recipe, scene, .. } = job;
    let uniform = |(view_idx, (_, matrices)): (usize, &(Pose, ViewMatrices))| {
        view_uniform(
            matrices,
            &recipe.lighting,
            scene.has_appearance,
            recipe.size_px,
            atlas.origin_px(view_idx % atlas.num_tiles()),
        )
    };
    job.views.iter().enumerate().map(uniform).collect()
}

fn check_sizes(
    job: &RenderJob,
    draw_buffers: &DrawBuffers,
    layout: &ReadbackLayout,
    limits: &wgpu::Limits,
) -> Result<(), ObjectError> {
    let scene = &job.scene;
    let stored = [
        size_of_val(&*scene.points),
        size_of_val(&*draw_buffers.triangles),
        size_of_val(&*scene.corners),
        size_of_val(&*scene.textures),
        size_of_val(&*scene.earlier.lists),
    ];
    let stored_bytes = stored.into_iter().max().unwrap_or_default() as u64;
    let drawn_bytes = size_of_val(&*draw_buffers.vertices).max(size_of_val(&*draw_buffers.indices)) as u64;
    for (needed_bytes, limit_bytes) in [
        (
            stored_bytes,
            limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
        ),
        (drawn_bytes, limits.max_buffer_size),
    ] {
        if needed_bytes > limit_bytes {
            return Err(ObjectError::MeshTooLarge {
                num_triangles: scene.triangles.len(),
                needed_bytes,
                limit_bytes,
            });
        }
    }
    let (needed_bytes, limit_bytes) = (layout.num_bytes(), limits.max_buffer_size);
    if needed_bytes > limit_bytes {
        return Err(ObjectError::ViewsTooLarge {
            num_views: job.views.len(),
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

    /// A GPU draws all views in one pass, a software driver one view per pass.
    #[test]
    fn images_do_not_depend_on_views_per_pass() {
        let mut renderer = GpuRenderer::try_new(&AdapterChoice::Software, 1).unwrap();
        for (samples, channels) in [(1, Channels::default()), (1, Channels::ALL), (4, Channels::ALL)] {
            let recipe = RenderRecipe {
                size_px: 50,
                samples,
                channels,
                ..RenderRecipe::default()
            };
            let job = RenderJob::of_axes(&recipe, BackendKind::SoftwareDriver);
            let mut render_in_passes_of = |views_per_pass| {
                renderer.views_per_pass = views_per_pass;
                let pending = renderer.submit(&job).unwrap();
                renderer.finish(pending).unwrap()
            };
            let one_by_one = render_in_passes_of(1);
            for views_per_pass in [5, usize::MAX] {
                assert!(
                    render_in_passes_of(views_per_pass) == one_by_one,
                    "{views_per_pass} views in a pass, {samples} samples"
                );
            }
        }
    }
}
