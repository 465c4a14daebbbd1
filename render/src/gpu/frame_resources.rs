//! `FrameResources`: the buffers of one mesh in flight, and the encoding of its commands.

use glam::UVec2;
use tap_shaders::{ForwardVertex, Triangle, Vertex, ViewUniform};

use super::adapter::Gpu;
use super::pipeline::Pipelines;
use super::readback::ReadbackLayout;
use super::target::Target;
use super::timestamp::TimestampQueries;
use crate::job::{DrawBuffers, RenderJob};
use crate::scene::Scene;

/// Storage buffers of a scene.
const NUM_SCENE_BUFFERS: usize = 6;

/// The buffers of one mesh in flight.
#[derive(Debug)]
pub(super) struct FrameResources {
    vertices: GrowingBuffer,
    indices: GrowingBuffer,
    /// The scene's storage buffers, in the order of their bindings.
    scene: [GrowingBuffer; NUM_SCENE_BUFFERS],
    views: GrowingBuffer,
    pub(super) readback: GrowingBuffer,
    /// Bytes of `readback` that the current mesh uses.
    pub(super) read_bytes: u64,
    /// Timestamps are read back behind the attachments.
    pub(super) timestamps: Option<TimestampQueries>,
    /// Bytes between the uniforms of consecutive views.
    view_stride: u32,
}

impl FrameResources {
    pub(super) fn new(device: &wgpu::Device) -> Self {
        use wgpu::BufferUsages as Usage;
        let buffer = |label, usage| GrowingBuffer::new(device, label, usage);
        let storage = |label| buffer(label, Usage::STORAGE | Usage::COPY_DST);
        let alignment = device.limits().min_uniform_buffer_offset_alignment;
        Self {
            vertices: buffer("vertices", Usage::VERTEX | Usage::COPY_DST),
            indices: buffer("indices", Usage::INDEX | Usage::COPY_DST),
            scene: [
                "points",
                "triangles",
                "corners",
                "materials",
                "textures",
                "earlier triangles",
            ]
            .map(storage),
            views: buffer("views", Usage::UNIFORM | Usage::COPY_DST),
            readback: buffer("readback", Usage::MAP_READ | Usage::COPY_DST),
            read_bytes: 0,
            timestamps: TimestampQueries::new(device),
            view_stride: (size_of::<ViewUniform>() as u32).next_multiple_of(alignment),
        }
    }

    pub(super) fn upload(
        &mut self,
        gpu: &Gpu,
        uniforms: &[ViewUniform],
        scene: &Scene,
        draw_buffers: &DrawBuffers,
        pipelines: &Pipelines,
        layout: &ReadbackLayout,
    ) {
        let stride = self.view_stride as usize;
        let mut views = vec![0; stride * uniforms.len()];
        for (uniform, bytes) in uniforms.iter().zip(views.chunks_mut(stride)) {
            bytes[..size_of::<ViewUniform>()].copy_from_slice(bytemuck::bytes_of(uniform));
        }
        self.views.write(gpu, &views);
        self.indices
            .write(gpu, bytemuck::cast_slice(&draw_buffers.indices));
        if pipelines.resolve.is_some() {
            self.vertices
                .write(gpu, bytemuck::cast_slice(&draw_buffers.vertices));
            let arrays: [&[u8]; NUM_SCENE_BUFFERS] = [
                bytemuck::cast_slice(&scene.points),
                bytemuck::cast_slice(&draw_buffers.triangles),
                bytemuck::cast_slice(&scene.corners),
                bytemuck::cast_slice(&scene.materials),
                bytemuck::cast_slice(&scene.textures),
                bytemuck::cast_slice(&scene.earlier.lists),
            ];
            for (buffer, bytes) in self.scene.iter_mut().zip(arrays) {
                buffer.write(gpu, bytes);
            }
        } else {
            let vertices = face_vertices(&draw_buffers.vertices, &draw_buffers.triangles);
            self.vertices.write(gpu, bytemuck::cast_slice(&vertices));
        }
        let clock_bytes = self
            .timestamps
            .as_ref()
            .map_or(0, |_| TimestampQueries::NUM_BYTES);
        self.read_bytes = layout.num_bytes().next_multiple_of(TimestampQueries::NUM_BYTES) + clock_bytes;
        self.readback.reserve(&gpu.device, self.read_bytes);
    }

    #[allow(clippy::too_many_arguments, reason = "all of one submission meets here")]
    pub(super) fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        device: &wgpu::Device,
        job: &RenderJob,
        draw_buffers: &DrawBuffers,
        layout: &ReadbackLayout,
        pipelines: &Pipelines,
        target: &Target,
    ) {
        let bind_group = |label, layout, entries: &[wgpu::BindGroupEntry<'_>]| {
            device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(label),
                layout,
                entries,
            })
        };
        if let Some(timestamps) = &self.timestamps {
            timestamps.start(encoder);
        }
        let view = self.views.binding(0, size_of::<ViewUniform>() as u64);
        let view_group = bind_group("view", &pipelines.view_layout, &[view]);
        let scene_group = pipelines.resolve.as_ref().map(|_| {
            let arrays: [_; NUM_SCENE_BUFFERS] =
                std::array::from_fn(|i| self.scene[i].used_binding(i as u32));
            bind_group("scene", &pipelines.scene_layout, &arrays)
        });
        let background = job.recipe.lighting.background;
        let num_views = job.views.len();
        let num_tiles = target.atlas.num_tiles();
        for (atlas_idx, first_view) in (0..num_views).step_by(num_tiles).enumerate() {
            let view_idxs = first_view..num_views.min(first_view + num_tiles);
            let set_view = |pass: &mut wgpu::RenderPass<'_>, view_idx: usize| {
                let UVec2 { x, y } = target.atlas.origin_px(view_idx - first_view);
                let size_px = target.atlas.size_px;
                pass.set_viewport(x as f32, y as f32, size_px as f32, size_px as f32, 0.0, 1.0);
                pass.set_scissor_rect(x, y, size_px, size_px);
                pass.set_bind_group(0, &view_group, &[view_idx as u32 * self.view_stride]);
            };
            let mut pass = target.begin_geometry_pass(encoder, background);
            pass.set_pipeline(&pipelines.geometry);
            if let Some(scene_group) = &scene_group {
                pass.set_bind_group(1, scene_group, &[]);
            }
            pass.set_vertex_buffer(0, self.vertices.buffer.slice(..));
            pass.set_index_buffer(self.indices.buffer.slice(..), wgpu::IndexFormat::Uint32);
            for view_idx in view_idxs.clone() {
                set_view(&mut pass, view_idx);
                pass.draw_indexed(draw_buffers.index_ranges[view_idx].clone(), 0, 0..1);
            }
            drop(pass);
            if let Some(resolve) = &pipelines.resolve {
                let mut pass = target.begin_resolve_pass(encoder, background);
                pass.set_pipeline(&resolve.pipeline);
                pass.set_bind_group(1, scene_group.as_ref(), &[]);
                pass.set_bind_group(2, target.bind_group.as_ref(), &[]);
                for view_idx in view_idxs {
                    set_view(&mut pass, view_idx);
                    pass.draw(0..3, 0..1);
                }
            }
            for (attachment, texture, _) in &target.attachments {
                let Some(copy_layout) = layout.copy_layout(atlas_idx, *attachment) else {
                    continue;
                };
                encoder.copy_texture_to_buffer(
                    texture.as_image_copy(),
                    wgpu::TexelCopyBufferInfo {
                        buffer: &self.readback.buffer,
                        layout: copy_layout,
                    },
                    target.atlas.extent(),
                );
            }
        }
        if let Some(timestamps) = &self.timestamps {
            let offset = self.read_bytes - TimestampQueries::NUM_BYTES;
            timestamps.stop(encoder, &self.readback.buffer, offset);
        }
    }
}

/// Vertices with the normal of the triangle whose provoking vertex they are.
fn face_vertices(vertices: &[Vertex], triangles: &[Triangle]) -> Vec<ForwardVertex> {
    let face = |vertex: &Vertex| ForwardVertex {
        position: vertex.position,
        // Some are no triangle's provoking vertex.
        normal: triangles
            .get(vertex.triangle as usize)
            .map_or([0.0; 3], |triangle| triangle.normal),
    };
    vertices.iter().map(face).collect()
}

/// A buffer that is reallocated when it is too small.
#[derive(Debug)]
pub(super) struct GrowingBuffer {
    label: &'static str,
    pub(super) buffer: wgpu::Buffer,
    /// Bytes that the current mesh uses; at least the minimum size, since bindings cannot be empty.
    used_bytes: u64,
}

impl GrowingBuffer {
    /// Minimum size.
    const SMALLEST_BYTES: u64 = 1 << 10;

    fn new(device: &wgpu::Device, label: &'static str, usage: wgpu::BufferUsages) -> Self {
        Self {
            label,
            buffer: Self::create(device, label, usage, Self::SMALLEST_BYTES),
            used_bytes: Self::SMALLEST_BYTES,
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
        self.used_bytes = (bytes.len() as u64).max(Self::SMALLEST_BYTES);
        self.reserve(&gpu.device, self.used_bytes);
        gpu.queue.write_buffer(&self.buffer, 0, bytes);
    }

    /// Binding of the bytes that the current mesh uses.
    fn used_binding(&self, binding: u32) -> wgpu::BindGroupEntry<'_> {
        self.binding(binding, self.used_bytes)
    }

    /// Binding of the first `num_bytes`.
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
