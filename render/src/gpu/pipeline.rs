//! Pipelines and their bind group layouts: state that depends on nothing but the number of samples.

use tap_shaders::{DRAW, RESOLVE_MANY, RESOLVE_ONE, Vertex};
use wgpu::BufferBindingType::{Storage, Uniform};

use super::target::{DEPTH_FORMAT, NAME_FORMAT};

/// All that draws and resolves views of so many samples a pixel.
#[derive(Debug)]
pub(super) struct Pipelines {
    pub(super) samples: u32,
    /// Group 0: the view.
    pub(super) view_layout: wgpu::BindGroupLayout,
    /// Group 1: the arrays of the scene.
    pub(super) scene_layout: wgpu::BindGroupLayout,
    /// Group 2 of `resolve`: where a view's words go, its words.
    pub(super) output_layout: wgpu::BindGroupLayout,
    /// Group 3 of `resolve`: the target's textures.
    pub(super) target_layout: wgpu::BindGroupLayout,
    pub(super) see: wgpu::RenderPipeline,
    /// For meshes with holes in their materials.
    pub(super) see_through: wgpu::RenderPipeline,
    pub(super) resolve: wgpu::ComputePipeline,
}

impl Pipelines {
    pub(super) fn new(device: &wgpu::Device, samples: u32) -> Self {
        let layout = |label, entries: &[wgpu::BindGroupLayoutEntry]| {
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some(label),
                entries,
            })
        };
        let all = wgpu::ShaderStages::VERTEX_FRAGMENT | wgpu::ShaderStages::COMPUTE;
        let shading = wgpu::ShaderStages::FRAGMENT | wgpu::ShaderStages::COMPUTE;
        let compute = wgpu::ShaderStages::COMPUTE;
        let view_layout = layout("view", &[buffer_entry(0, all, Uniform, true)]);
        let read_only = Storage { read_only: true };
        let arrays = [0, 1, 2, 3, 4].map(|binding| buffer_entry(binding, shading, read_only, false));
        let scene_layout = layout("scene", &arrays);
        let output_layout = layout(
            "output",
            &[
                buffer_entry(0, compute, Uniform, false),
                buffer_entry(1, compute, Storage { read_only: false }, true),
            ],
        );
        let target_layout = layout(
            "target",
            &[
                texture_entry(0, wgpu::TextureSampleType::Uint, samples),
                texture_entry(1, wgpu::TextureSampleType::Depth, samples),
            ],
        );
        let source = if samples == 1 { RESOLVE_ONE } else { RESOLVE_MANY };
        let resolve = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some("resolve"),
            layout: Some(&device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some("resolve"),
                bind_group_layouts: &[
                    Some(&view_layout),
                    Some(&scene_layout),
                    Some(&output_layout),
                    Some(&target_layout),
                ],
                immediate_size: 0,
            })),
            module: &shader(device, "resolve", source),
            entry_point: Some("resolve"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        let draw_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some("draw"),
            bind_group_layouts: &[Some(&view_layout), Some(&scene_layout)],
            immediate_size: 0,
        });
        let draw_module = shader(device, "draw", DRAW);
        let draw = |entry_point| draw_pipeline(device, &draw_layout, &draw_module, samples, entry_point);
        Self {
            samples,
            see: draw("see"),
            see_through: draw("see_through"),
            resolve,
            view_layout,
            scene_layout,
            output_layout,
            target_layout,
        }
    }
}

fn draw_pipeline(
    device: &wgpu::Device,
    layout: &wgpu::PipelineLayout,
    module: &wgpu::ShaderModule,
    samples: u32,
    entry_point: &str,
) -> wgpu::RenderPipeline {
    let buffer = wgpu::VertexBufferLayout {
        array_stride: size_of::<Vertex>() as u64,
        step_mode: wgpu::VertexStepMode::Vertex,
        attributes: &wgpu::vertex_attr_array![0 => Float32x3, 1 => Uint32],
    };
    device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
        label: Some(entry_point),
        layout: Some(layout),
        vertex: wgpu::VertexState {
            module,
            entry_point: Some("place"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            buffers: &[Some(buffer)],
        },
        // Both sides of a face are seen.
        primitive: wgpu::PrimitiveState {
            cull_mode: None,
            ..wgpu::PrimitiveState::default()
        },
        depth_stencil: Some(wgpu::DepthStencilState {
            format: DEPTH_FORMAT,
            depth_write_enabled: Some(true),
            depth_compare: Some(wgpu::CompareFunction::Less),
            stencil: wgpu::StencilState::default(),
            bias: wgpu::DepthBiasState::default(),
        }),
        multisample: wgpu::MultisampleState {
            count: samples,
            ..wgpu::MultisampleState::default()
        },
        fragment: Some(wgpu::FragmentState {
            module,
            entry_point: Some(entry_point),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            targets: &[Some(NAME_FORMAT.into())],
        }),
        multiview_mask: None,
        cache: None,
    })
}

fn shader(device: &wgpu::Device, label: &str, source: &str) -> wgpu::ShaderModule {
    device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some(label),
        source: wgpu::ShaderSource::Wgsl(source.into()),
    })
}

fn buffer_entry(
    binding: u32,
    visibility: wgpu::ShaderStages,
    ty: wgpu::BufferBindingType,
    has_dynamic_offset: bool,
) -> wgpu::BindGroupLayoutEntry {
    let ty = wgpu::BindingType::Buffer {
        ty,
        has_dynamic_offset,
        min_binding_size: None,
    };
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility,
        ty,
        count: None,
    }
}

fn texture_entry(
    binding: u32,
    sample_type: wgpu::TextureSampleType,
    samples: u32,
) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Texture {
            sample_type,
            view_dimension: wgpu::TextureViewDimension::D2,
            multisampled: samples > 1,
        },
        count: None,
    }
}
