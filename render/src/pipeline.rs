//! Pipelines and their bind group layouts: state that depends on nothing but the kind of target.

use tap_shaders::{DRAW, RESOLVE_MANY, RESOLVE_ONE, Vertex};

use crate::target::{DEPTH_FORMAT, NORMAL_FORMAT, SHADE_FORMAT};

/// What decides which shaders run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TargetKind {
    pub(crate) samples: u32,
    pub(crate) has_normal: bool,
}

/// All that draws and resolves views of one kind.
#[derive(Debug)]
pub(crate) struct Pipelines {
    pub(crate) kind: TargetKind,
    /// Group 0 of `draw`: the view.
    pub(crate) draw_layout: wgpu::BindGroupLayout,
    /// Group 0 of the others: the view, where its words go, its words.
    pub(crate) resolve_layout: wgpu::BindGroupLayout,
    /// Group 1 of the others: the target's textures.
    pub(crate) target_layout: wgpu::BindGroupLayout,
    pub(crate) draw: wgpu::RenderPipeline,
    pub(crate) resolve_shades: wgpu::ComputePipeline,
    pub(crate) resolve_distances: wgpu::ComputePipeline,
    /// There if the kind has normals.
    pub(crate) resolve_normals: Option<wgpu::ComputePipeline>,
}

impl Pipelines {
    pub(crate) fn new(device: &wgpu::Device, kind: TargetKind) -> Self {
        let layout = |label, entries: &[wgpu::BindGroupLayoutEntry]| {
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some(label),
                entries,
            })
        };
        let draw_layout = layout("draw", &[view_entry(wgpu::ShaderStages::VERTEX_FRAGMENT)]);
        let resolve_layout = layout(
            "resolve",
            &[
                view_entry(wgpu::ShaderStages::COMPUTE),
                buffer_entry(
                    1,
                    wgpu::ShaderStages::COMPUTE,
                    wgpu::BufferBindingType::Uniform,
                    false,
                ),
                buffer_entry(
                    2,
                    wgpu::ShaderStages::COMPUTE,
                    wgpu::BufferBindingType::Storage { read_only: false },
                    true,
                ),
            ],
        );
        let mut textures = vec![
            texture_entry(0, wgpu::TextureSampleType::Float { filterable: false }, kind),
            texture_entry(1, wgpu::TextureSampleType::Depth, kind),
        ];
        if kind.has_normal {
            textures.push(texture_entry(2, wgpu::TextureSampleType::Uint, kind));
        }
        let target_layout = layout("target", &textures);
        let draw = draw_pipeline(device, &draw_layout, kind);
        let source = if kind.samples == 1 {
            RESOLVE_ONE
        } else {
            RESOLVE_MANY
        };
        let module = shader(device, "resolve", source);
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some("resolve"),
            bind_group_layouts: &[Some(&resolve_layout), Some(&target_layout)],
            immediate_size: 0,
        });
        let resolve = |entry_point| {
            device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(entry_point),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some(entry_point),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                cache: None,
            })
        };
        Self {
            kind,
            draw,
            resolve_shades: resolve("resolve_shades"),
            resolve_distances: resolve("resolve_distances"),
            resolve_normals: kind.has_normal.then(|| resolve("resolve_normals")),
            draw_layout,
            resolve_layout,
            target_layout,
        }
    }
}

fn draw_pipeline(
    device: &wgpu::Device,
    layout: &wgpu::BindGroupLayout,
    kind: TargetKind,
) -> wgpu::RenderPipeline {
    let module = shader(device, "draw", DRAW);
    let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some("draw"),
        bind_group_layouts: &[Some(layout)],
        immediate_size: 0,
    });
    let buffer = wgpu::VertexBufferLayout {
        array_stride: size_of::<Vertex>() as u64,
        step_mode: wgpu::VertexStepMode::Vertex,
        attributes: &wgpu::vertex_attr_array![0 => Float32x3, 1 => Float32x3],
    };
    let mut targets = vec![Some(SHADE_FORMAT.into())];
    if kind.has_normal {
        targets.push(Some(NORMAL_FORMAT.into()));
    }
    device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
        label: Some("draw"),
        layout: Some(&layout),
        vertex: wgpu::VertexState {
            module: &module,
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
            count: kind.samples,
            ..wgpu::MultisampleState::default()
        },
        fragment: Some(wgpu::FragmentState {
            module: &module,
            entry_point: Some(if kind.has_normal {
                "shade_and_normal"
            } else {
                "shade"
            }),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            targets: &targets,
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

fn view_entry(visibility: wgpu::ShaderStages) -> wgpu::BindGroupLayoutEntry {
    buffer_entry(0, visibility, wgpu::BufferBindingType::Uniform, true)
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
    kind: TargetKind,
) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Texture {
            sample_type,
            view_dimension: wgpu::TextureViewDimension::D2,
            multisampled: kind.samples > 1,
        },
        count: None,
    }
}
