//! The renderer: framed meshes in, one submission each, views out; the device is kept busy in between.
//!
//! [`Renderer::submit`] uploads a mesh, draws all its views into an atlas, resolves them and asks for them back, all
//! in one submission, and does not wait. [`Renderer::finish`] waits for that submission alone. Whoever submits the next
//! mesh before finishing the last one keeps the device and the CPU at work at the same time.
//!
//! Memory is bounded: one atlas for all, and for each mesh in flight the buffers of a [`Slot`], which are used again
//! for later meshes and grow to the largest.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use glam::{UVec2, Vec2};
use tap_shaders::{RESOLVE_WORKGROUP, ResolveUniform, ViewUniform};

use crate::camera::{Unprojection, ViewMatrices};
use crate::error::RenderError;
use crate::framing::{Culling, Framed};
use crate::gpu::{AdapterChoice, AdapterKind, AdapterReport, Gpu};
use crate::mesh::{Mesh, ObjectFromMesh};
use crate::pipeline::{Pipelines, TargetKind};
use crate::readback::ViewLayout;
use crate::recipe::RenderRecipe;
use crate::rig::Pose;
use crate::target::{Target, Tiling};
use crate::view::View;

/// Meshes in flight: one that the device draws, one that waits for it, one that is read back.
pub const DEFAULT_IN_FLIGHT: usize = 3;

/// How a renderer is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RendererOptions {
    /// Which adapter to render with.
    pub adapter: AdapterChoice,
    /// How many meshes may be submitted and not yet finished.
    pub max_in_flight: usize,
}

impl Default for RendererOptions {
    fn default() -> Self {
        Self {
            adapter: AdapterChoice::default(),
            max_in_flight: DEFAULT_IN_FLIGHT,
        }
    }
}

/// Draws views. One thread feeds it; it is `Send`.
#[derive(Debug)]
pub struct Renderer {
    gpu: Gpu,
    max_in_flight: usize,
    /// One for each kind of target seen so far.
    pipelines: Vec<Pipelines>,
    target: Option<Target>,
    idle: Vec<Slot>,
    /// Cloned into each slot in use, so that a dropped [`PendingViews`] is counted out.
    in_flight: Arc<()>,
}

/// Views that the device has been told to draw. Hand it to [`Renderer::finish`]; dropped, the views are lost, no more.
#[derive(Debug)]
pub struct PendingViews {
    slot: Slot,
    in_flight: Arc<()>,
    submission: wgpu::SubmissionIndex,
    mapped: Receiver<Result<(), wgpu::BufferAsyncError>>,
    layout: ViewLayout,
    views: Vec<(Pose, ViewMatrices)>,
}

impl Renderer {
    /// # Errors
    ///
    /// A [`RenderError`] that says what to install if there is no adapter as asked for.
    pub fn try_new(options: &RendererOptions) -> Result<Self, RenderError> {
        let RendererOptions {
            adapter,
            max_in_flight,
        } = options;
        if *max_in_flight == 0 {
            return Err(RenderError::NoneInFlight);
        }
        let gpu = Gpu::try_new(adapter)?;
        tracing::info!(adapter = %gpu.report, "renderer");
        Ok(Self {
            gpu,
            max_in_flight: *max_in_flight,
            pipelines: Vec::new(),
            target: None,
            idle: Vec::new(),
            in_flight: Arc::new(()),
        })
    }

    /// What the views are drawn with.
    #[must_use]
    pub fn adapter(&self) -> &AdapterReport {
        &self.gpu.report
    }

    /// How many meshes may be submitted and not yet finished.
    #[must_use]
    pub fn max_in_flight(&self) -> usize {
        self.max_in_flight
    }

    /// Which triangles [`Framed::try_new`] should leave out to spare this adapter's time.
    #[must_use]
    pub fn culling(&self) -> Culling {
        if self.gpu.report.kind == AdapterKind::Cpu {
            Culling::BetweenSamples
        } else {
            Culling::Nothing
        }
    }

    /// Draws all views of a mesh and waits for them.
    ///
    /// # Errors
    ///
    /// As [`Framed::try_new`], [`Renderer::submit`] and [`Renderer::finish`].
    pub fn render(
        &mut self,
        mesh: &Mesh,
        object_from_mesh: &ObjectFromMesh,
        recipe: &RenderRecipe,
    ) -> Result<Vec<View>, RenderError> {
        let framed = Framed::try_new(mesh, object_from_mesh, recipe, self.culling())?;
        let pending = self.submit(&framed)?;
        self.finish(pending)
    }

    /// Hands all views of a mesh to the device, in one submission, and does not wait for them.
    ///
    /// # Errors
    ///
    /// [`RenderError::TooManyInFlight`] if the caller holds [`Renderer::max_in_flight`] pending meshes,
    /// [`RenderError::MeshTooLarge`] or [`RenderError::ViewsTooLarge`] if the device has no buffer of that size, and
    /// whatever the device itself complains of.
    pub fn submit(&mut self, framed: &Framed) -> Result<PendingViews, RenderError> {
        if Arc::strong_count(&self.in_flight) > self.max_in_flight {
            return Err(RenderError::TooManyInFlight {
                limit: self.max_in_flight,
            });
        }
        self.gpu.check()?;
        let limits = self.gpu.device.limits();
        let layout = ViewLayout::new(
            framed.recipe.size_px,
            framed.recipe.channels,
            limits.min_storage_buffer_offset_alignment,
        );
        check_sizes(framed, &layout, &limits)?;
        let device = &self.gpu.device;
        let kind = TargetKind {
            samples: framed.recipe.samples,
            has_normal: framed.recipe.channels.normal,
        };
        let known = self.pipelines.iter().position(|pipelines| pipelines.kind == kind);
        let pipelines_idx = known.unwrap_or_else(|| {
            self.pipelines.push(Pipelines::new(device, kind));
            self.pipelines.len() - 1
        });
        let pipelines = &self.pipelines[pipelines_idx];
        let tiling = Tiling::new(framed.recipe.size_px, framed.views.len());
        // A target that does not fit goes before its successor is made, so that there are never two.
        let fitting = self.target.take().filter(|target| target.fits(kind, tiling));
        let target = fitting.unwrap_or_else(|| Target::new(device, pipelines, tiling));
        let target = self.target.insert(target);

        let mut slot = self.idle.pop().unwrap_or_else(|| Slot::new(&self.gpu.device));
        let view_stride =
            (size_of::<ViewUniform>() as u32).next_multiple_of(limits.min_uniform_buffer_offset_alignment);
        slot.upload(&self.gpu, framed, &layout, tiling, view_stride);
        let mut encoder = self
            .gpu
            .device
            .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        slot.encode(
            &mut encoder,
            &self.gpu.device,
            framed,
            &layout,
            pipelines,
            target,
            view_stride,
        );
        let submission = self.gpu.queue.submit([encoder.finish()]);
        let (sender, mapped) = sync_channel(1);
        slot.readback
            .buffer
            .map_async(wgpu::MapMode::Read, ..slot.read_bytes, move |result| {
                // Whoever dropped the pending views wants no answer.
                let _ = sender.send(result);
            });
        self.gpu.check()?;
        Ok(PendingViews {
            slot,
            in_flight: Arc::clone(&self.in_flight),
            submission,
            mapped,
            layout,
            views: framed.views.clone(),
        })
    }

    /// Waits for the views of one mesh.
    ///
    /// # Errors
    ///
    /// A [`RenderError`] if the device is lost, out of memory, or does not hand the pixels over.
    pub fn finish(&mut self, pending: PendingViews) -> Result<Vec<View>, RenderError> {
        let PendingViews {
            slot,
            in_flight,
            submission,
            mapped,
            layout,
            views,
        } = pending;
        let wait = wgpu::PollType::Wait {
            submission_index: Some(submission),
            timeout: None,
        };
        let waited = self.gpu.device.poll(wait);
        // What the device complained of says more than that the wait or the mapping failed.
        self.gpu.check()?;
        waited.map_err(|source| RenderError::Poll { source })?;
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
            .zip(bytes.chunks(layout.stride_bytes() as usize))
            .map(|((pose, matrices), bytes)| layout.decode(bytes, pose, matrices))
            .collect();
        drop(bytes);
        slot.readback.buffer.unmap();
        self.idle.push(slot);
        drop(in_flight);
        Ok(views)
    }
}

fn check_sizes(framed: &Framed, layout: &ViewLayout, limits: &wgpu::Limits) -> Result<(), RenderError> {
    let limit_bytes = limits.max_buffer_size;
    let mesh_bytes = size_of_val(&*framed.vertices).max(size_of_val(&*framed.indices)) as u64;
    if mesh_bytes > limit_bytes {
        let num_triangles = framed.num_triangles;
        return Err(RenderError::MeshTooLarge {
            num_triangles,
            needed_bytes: mesh_bytes,
            limit_bytes,
        });
    }
    let limit_bytes = if layout.view_bytes() > limits.max_storage_buffer_binding_size {
        limits.max_storage_buffer_binding_size
    } else {
        // Dynamic offsets are 32 bits wide.
        limit_bytes.min(u64::from(u32::MAX))
    };
    let needed_bytes = layout.stride_bytes() * framed.views.len() as u64;
    if needed_bytes > limit_bytes {
        return Err(RenderError::ViewsTooLarge {
            num_views: framed.views.len(),
            needed_bytes,
            limit_bytes,
        });
    }
    Ok(())
}

/// The buffers of one mesh in flight.
#[derive(Debug)]
struct Slot {
    vertices: GrowingBuffer,
    indices: GrowingBuffer,
    views: GrowingBuffer,
    resolve: GrowingBuffer,
    words: GrowingBuffer,
    readback: GrowingBuffer,
    /// Bytes of `readback` that the present mesh uses.
    read_bytes: u64,
}

impl Slot {
    fn new(device: &wgpu::Device) -> Self {
        use wgpu::BufferUsages as Usage;
        let buffer = |label, usage| GrowingBuffer::new(device, label, usage);
        Self {
            vertices: buffer("vertices", Usage::VERTEX | Usage::COPY_DST),
            indices: buffer("indices", Usage::INDEX | Usage::COPY_DST),
            views: buffer("views", Usage::UNIFORM | Usage::COPY_DST),
            resolve: buffer("resolve", Usage::UNIFORM | Usage::COPY_DST),
            words: buffer("words", Usage::STORAGE | Usage::COPY_SRC),
            readback: buffer("readback", Usage::MAP_READ | Usage::COPY_DST),
            read_bytes: 0,
        }
    }

    fn upload(&mut self, gpu: &Gpu, framed: &Framed, layout: &ViewLayout, tiling: Tiling, view_stride: u32) {
        let mut views = vec![0; view_stride as usize * framed.views.len()];
        for ((view_idx, (_, matrices)), bytes) in framed
            .views
            .iter()
            .enumerate()
            .zip(views.chunks_mut(view_stride as usize))
        {
            let origin_px = tiling.origin_px(view_idx % tiling.num_tiles());
            let uniform = view_uniform(matrices, &framed.recipe, origin_px);
            bytes[..size_of::<ViewUniform>()].copy_from_slice(bytemuck::bytes_of(&uniform));
        }
        self.vertices.write(gpu, bytemuck::cast_slice(&framed.vertices));
        self.indices.write(gpu, bytemuck::cast_slice(&framed.indices));
        self.views.write(gpu, &views);
        self.resolve.write(gpu, bytemuck::bytes_of(&layout.uniform()));
        self.read_bytes = layout.stride_bytes() * framed.views.len() as u64;
        self.words.reserve(&gpu.device, self.read_bytes);
        self.readback.reserve(&gpu.device, self.read_bytes);
    }

    #[allow(clippy::too_many_arguments, reason = "all of one submission meets here")]
    fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        device: &wgpu::Device,
        framed: &Framed,
        layout: &ViewLayout,
        pipelines: &Pipelines,
        target: &Target,
        view_stride: u32,
    ) {
        let view = self.views.binding(0, size_of::<ViewUniform>() as u64);
        let resolve = self.resolve.binding(1, size_of::<ResolveUniform>() as u64);
        let words = self.words.binding(2, layout.view_bytes());
        let bind_group = |label, layout, entries: &[wgpu::BindGroupEntry<'_>]| {
            device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(label),
                layout,
                entries,
            })
        };
        let draw_group = bind_group("draw", &pipelines.draw_layout, std::slice::from_ref(&view));
        let resolve_group = bind_group("resolve", &pipelines.resolve_layout, &[view, resolve, words]);
        let size_px = target.tiling.size_px;
        let view_idxs: Vec<usize> = (0..framed.views.len()).collect();
        for view_idxs in view_idxs.chunks(target.tiling.num_tiles()) {
            let mut pass = target.begin_pass(encoder);
            pass.set_pipeline(&pipelines.draw);
            pass.set_vertex_buffer(0, self.vertices.buffer.slice(..));
            pass.set_index_buffer(self.indices.buffer.slice(..), wgpu::IndexFormat::Uint32);
            for (tile_idx, view_idx) in view_idxs.iter().enumerate() {
                let UVec2 { x, y } = target.tiling.origin_px(tile_idx);
                pass.set_viewport(x as f32, y as f32, size_px as f32, size_px as f32, 0.0, 1.0);
                pass.set_scissor_rect(x, y, size_px, size_px);
                pass.set_bind_group(0, &draw_group, &[*view_idx as u32 * view_stride]);
                pass.draw_indexed(framed.index_ranges[*view_idx].clone(), 0, 0..1);
            }
            drop(pass);
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_bind_group(1, &target.bind_group, &[]);
            let depths = framed
                .recipe
                .channels
                .depth
                .then_some(&pipelines.resolve_distances);
            let normals = pipelines.resolve_normals.as_ref();
            let resolves = [
                (Some(&pipelines.resolve_shades), layout.num_shade_words()),
                (depths, layout.num_pixels()),
                (normals, layout.num_pixels()),
            ];
            for (pipeline, num_invocations) in resolves {
                let Some(pipeline) = pipeline else { continue };
                pass.set_pipeline(pipeline);
                for view_idx in view_idxs {
                    let first_byte = *view_idx as u64 * layout.stride_bytes();
                    let offsets = [*view_idx as u32 * view_stride, first_byte as u32];
                    pass.set_bind_group(0, &resolve_group, &offsets);
                    pass.dispatch_workgroups(num_invocations.div_ceil(RESOLVE_WORKGROUP), 1, 1);
                }
            }
        }
        encoder.copy_buffer_to_buffer(&self.words.buffer, 0, &self.readback.buffer, 0, self.read_bytes);
    }
}

fn view_uniform(matrices: &ViewMatrices, recipe: &RenderRecipe, origin_px: UVec2) -> ViewUniform {
    let origin = Vec2::new(origin_px.x as f32, origin_px.y as f32);
    let Unprojection {
        ray_scale,
        ray_offset,
        distance_from_depth,
    } = Unprojection::new(matrices, recipe.size_px, origin);
    ViewUniform {
        clip_from_object: matrices.clip_from_object().to_cols_array_2d(),
        view_from_object: matrices.view_from_object.to_cols_array_2d(),
        ray_scale: ray_scale.into(),
        ray_offset: ray_offset.into(),
        distance_from_depth,
        ambient: recipe.lighting.ambient as f32,
        diffuse: recipe.lighting.diffuse as f32,
        origin_px: origin_px.into(),
    }
}

/// A buffer that is replaced by a larger one when something does not fit.
#[derive(Debug)]
struct GrowingBuffer {
    label: &'static str,
    buffer: wgpu::Buffer,
}

impl GrowingBuffer {
    /// Room that every buffer has.
    const SMALLEST_BYTES: u64 = 1 << 10;

    fn new(device: &wgpu::Device, label: &'static str, usage: wgpu::BufferUsages) -> Self {
        Self {
            label,
            buffer: Self::create(device, label, usage, Self::SMALLEST_BYTES),
        }
    }

    fn create(device: &wgpu::Device, label: &str, usage: wgpu::BufferUsages, size: u64) -> wgpu::Buffer {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        })
    }

    fn reserve(&mut self, device: &wgpu::Device, num_bytes: u64) {
        if num_bytes > self.buffer.size() {
            let limit = device.limits().max_buffer_size;
            let room = num_bytes
                .checked_next_power_of_two()
                .filter(|room| *room <= limit)
                .unwrap_or(num_bytes);
            self.buffer = Self::create(device, self.label, self.buffer.usage(), room);
        }
    }

    fn write(&mut self, gpu: &Gpu, bytes: &[u8]) {
        self.reserve(&gpu.device, bytes.len() as u64);
        gpu.queue.write_buffer(&self.buffer, 0, bytes);
    }

    /// The first bytes of the buffer as a binding.
    fn binding(&self, binding: u32, num_bytes: u64) -> wgpu::BindGroupEntry<'_> {
        let size = wgpu::BufferSize::new(num_bytes);
        let binding_of = wgpu::BufferBinding {
            buffer: &self.buffer,
            offset: 0,
            size,
        };
        wgpu::BindGroupEntry {
            binding,
            resource: wgpu::BindingResource::Buffer(binding_of),
        }
    }
}
