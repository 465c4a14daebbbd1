//! `Slot`: the buffers of one mesh in flight, and the commands that fill and read them.

use glam::UVec2;
use tap_shaders::{FaceVertex, Triangle, Vertex, ViewUniform};

use super::adapter::Gpu;
use super::pipeline::Pipelines;
use super::readback::Layout;
use super::target::Target;
use super::timestamp::DeviceClock;
use crate::job::{Draws, Framed};
use crate::scene::Scene;

/// The buffers of one mesh in flight.
#[derive(Debug)]
pub(super) struct Slot {
    vertices: GrowingBuffer,
    indices: GrowingBuffer,
    /// The arrays of the scene, in the order of their bindings.
    scene: [GrowingBuffer; 5],
    views: GrowingBuffer,
    pub(super) readback: GrowingBuffer,
    /// Bytes of `readback` that the present mesh uses.
    pub(super) read_bytes: u64,
    /// Its times are the last of those bytes.
    pub(super) clock: Option<DeviceClock>,
    /// Bytes from one view's uniform to the next.
    view_stride: u32,
}

impl Slot {
    pub(super) fn new(device: &wgpu::Device) -> Self {
        use wgpu::BufferUsages as Usage;
        let buffer = |label, usage| GrowingBuffer::new(device, label, usage);
        let storage = |label| buffer(label, Usage::STORAGE | Usage::COPY_DST);
        let alignment = device.limits().min_uniform_buffer_offset_alignment;
        Self {
            vertices: buffer("vertices", Usage::VERTEX | Usage::COPY_DST),
            indices: buffer("indices", Usage::INDEX | Usage::COPY_DST),
            scene: ["points", "triangles", "corners", "materials", "textures"].map(storage),
            views: buffer("views", Usage::UNIFORM | Usage::COPY_DST),
            readback: buffer("readback", Usage::MAP_READ | Usage::COPY_DST),
            read_bytes: 0,
            clock: DeviceClock::new(device),
            view_stride: (size_of::<ViewUniform>() as u32).next_multiple_of(alignment),
        }
    }

    pub(super) fn upload(
        &mut self,
        gpu: &Gpu,
        uniforms: &[ViewUniform],
        scene: &Scene,
        draws: &Draws,
        pipelines: &Pipelines,
        layout: &Layout,
    ) {
        let stride = self.view_stride as usize;
        let mut views = vec![0; stride * uniforms.len()];
        for (uniform, bytes) in uniforms.iter().zip(views.chunks_mut(stride)) {
            bytes[..size_of::<ViewUniform>()].copy_from_slice(bytemuck::bytes_of(uniform));
        }
        self.views.write(gpu, &views);
        self.indices.write(gpu, bytemuck::cast_slice(&draws.indices));
        if pipelines.resolve.is_some() {
            self.vertices.write(gpu, bytemuck::cast_slice(&draws.vertices));
            let arrays: [&[u8]; 5] = [
                bytemuck::cast_slice(&scene.points),
                bytemuck::cast_slice(&draws.triangles),
                bytemuck::cast_slice(&scene.corners),
                bytemuck::cast_slice(&scene.materials),
                bytemuck::cast_slice(&scene.textures),
            ];
            for (buffer, bytes) in self.scene.iter_mut().zip(arrays) {
                buffer.write(gpu, bytes);
            }
        } else {
            let vertices = face_vertices(&draws.vertices, &draws.triangles);
            self.vertices.write(gpu, bytemuck::cast_slice(&vertices));
        }
        let clock_bytes = self.clock.as_ref().map_or(0, |_| DeviceClock::NUM_BYTES);
        self.read_bytes = layout.num_bytes().next_multiple_of(DeviceClock::NUM_BYTES) + clock_bytes;
        self.readback.reserve(&gpu.device, self.read_bytes);
    }

    #[allow(clippy::too_many_arguments, reason = "all of one submission meets here")]
    pub(super) fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        device: &wgpu::Device,
        framed: &Framed,
        draws: &Draws,
        layout: &Layout,
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
        if let Some(clock) = &self.clock {
            clock.start(encoder);
        }
        let view = self.views.binding(0, size_of::<ViewUniform>() as u64);
        let view_group = bind_group("view", &pipelines.view_layout, &[view]);
        let scene_group = pipelines.resolve.as_ref().map(|_| {
            let arrays: [_; 5] = std::array::from_fn(|i| self.scene[i].used_binding(i as u32));
            bind_group("scene", &pipelines.scene_layout, &arrays)
        });
        let background = framed.recipe.lighting.background;
        let num_views = framed.views.len();
        let num_tiles = target.tiling.num_tiles();
        for (atlas_idx, first_view) in (0..num_views).step_by(num_tiles).enumerate() {
            let view_idxs = first_view..num_views.min(first_view + num_tiles);
            let look_at = |pass: &mut wgpu::RenderPass<'_>, view_idx: usize| {
                let UVec2 { x, y } = target.tiling.origin_px(view_idx - first_view);
                let size_px = target.tiling.size_px;
                pass.set_viewport(x as f32, y as f32, size_px as f32, size_px as f32, 0.0, 1.0);
                pass.set_scissor_rect(x, y, size_px, size_px);
                pass.set_bind_group(0, &view_group, &[view_idx as u32 * self.view_stride]);
            };
            let mut pass = target.begin_drawing(encoder, background);
            pass.set_pipeline(&pipelines.draw);
            if let Some(scene_group) = &scene_group {
                pass.set_bind_group(1, scene_group, &[]);
            }
            pass.set_vertex_buffer(0, self.vertices.buffer.slice(..));
            pass.set_index_buffer(self.indices.buffer.slice(..), wgpu::IndexFormat::Uint32);
            for view_idx in view_idxs.clone() {
                look_at(&mut pass, view_idx);
                pass.draw_indexed(draws.index_ranges[view_idx].clone(), 0, 0..1);
            }
            drop(pass);
            if let Some(resolve) = &pipelines.resolve {
                let mut pass = target.begin_resolving(encoder, background);
                pass.set_pipeline(&resolve.pipeline);
                pass.set_bind_group(1, scene_group.as_ref(), &[]);
                pass.set_bind_group(2, target.bind_group.as_ref(), &[]);
                for view_idx in view_idxs {
                    look_at(&mut pass, view_idx);
                    pass.draw(0..3, 0..1);
                }
            }
            for (plane, texture, _) in &target.planes {
                let Some(place) = layout.place(atlas_idx, *plane) else {
                    continue;
                };
                encoder.copy_texture_to_buffer(
                    texture.as_image_copy(),
                    wgpu::TexelCopyBufferInfo {
                        buffer: &self.readback.buffer,
                        layout: place,
                    },
                    target.tiling.extent(),
                );
            }
        }
        if let Some(clock) = &self.clock {
            let offset = self.read_bytes - DeviceClock::NUM_BYTES;
            clock.stop(encoder, &self.readback.buffer, offset);
        }
    }
}

/// Vertices with the normal of the triangle that begins at them.
fn face_vertices(vertices: &[Vertex], triangles: &[Triangle]) -> Vec<FaceVertex> {
    let face = |vertex: &Vertex| FaceVertex {
        position: vertex.position,
        // No triangle begins at some.
        normal: triangles
            .get(vertex.triangle as usize)
            .map_or([0.0; 3], |triangle| triangle.normal),
    };
    vertices.iter().map(face).collect()
}

/// A buffer that is replaced by a larger one when something does not fit.
#[derive(Debug)]
pub(super) struct GrowingBuffer {
    label: &'static str,
    pub(super) buffer: wgpu::Buffer,
    /// Bytes that the present mesh uses, and never none.
    used_bytes: u64,
}

impl GrowingBuffer {
    /// Room that every buffer has.
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

    /// What the present mesh uses of the buffer as a binding.
    fn used_binding(&self, binding: u32) -> wgpu::BindGroupEntry<'_> {
        self.binding(binding, self.used_bytes)
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
