//! Render pipelines and bind group layouts, specialized for a [`PipelineKey`].

use tap_shaders::{FORWARD, ForwardVertex, RESOLVE_MULTISAMPLE, RESOLVE_SINGLE_SAMPLE, VISIBILITY, Vertex};
use wgpu::BufferBindingType::{Storage, Uniform};

use super::pipeline_key::{Attachment, PipelineKey, TargetKey};
use super::target::{DEPTH_FORMAT, TRIANGLE_ID_FORMAT};
use crate::lighting::ColorKind;

/// The pipelines for one key.
#[derive(Debug)]
pub(super) struct Pipelines {
    pub(super) key: PipelineKey,
    /// Group 0: the view's uniforms.
    pub(super) view_layout: wgpu::BindGroupLayout,
    /// Group 1: the scene's storage buffers.
    pub(super) scene_layout: wgpu::BindGroupLayout,
    /// Geometry pass: writes the visibility buffer, or colors if forward-shaded.
    pub(super) geometry: wgpu::RenderPipeline,
    /// Absent if forward-shaded.
    pub(super) resolve: Option<Resolve>,
}

/// Resolve pass: shades the visibility buffer.
#[derive(Debug)]
pub(super) struct Resolve {
    /// Group 2: the visibility buffer.
    pub(super) visibility_layout: wgpu::BindGroupLayout,
    pub(super) pipeline: wgpu::RenderPipeline,
}

/// What pipelines differ in.
struct PipelineDesc<'a> {
    label: &'a str,
    module: &'a wgpu::ShaderModule,
    vertex: &'a str,
    buffers: &'a [Option<wgpu::VertexBufferLayout<'a>>],
    fragment: &'a str,
    constants: &'a [(&'a str, f64)],
    targets: &'a [Option<wgpu::ColorTargetState>],
    /// Samples per pixel of the attachments.
    samples: u32,
    has_depth: bool,
}

impl Pipelines {
    pub(super) fn new(device: &wgpu::Device, key: PipelineKey) -> Self {
        let both = wgpu::ShaderStages::VERTEX_FRAGMENT;
        let view_layout = bind_group_layout(device, "view", &[buffer_entry(0, both, Uniform, true)]);
        let read_only = Storage { read_only: true };
        let fragment = wgpu::ShaderStages::FRAGMENT;
        let arrays = [0, 1, 2, 3, 4, 5].map(|binding| buffer_entry(binding, fragment, read_only, false));
        let scene_layout = bind_group_layout(device, "scene", &arrays);
        let geometry = if key.target.is_forward {
            forward_pipeline(device, key, &view_layout)
        } else {
            visibility_pipeline(device, key, [&view_layout, &scene_layout])
        };
        let resolve =
            (!key.target.is_forward).then(|| Resolve::new(device, key, [&view_layout, &scene_layout]));
        Self {
            key,
            view_layout,
            scene_layout,
            geometry,
            resolve,
        }
    }
}

fn forward_pipeline(
    device: &wgpu::Device,
    key: PipelineKey,
    view_layout: &wgpu::BindGroupLayout,
) -> wgpu::RenderPipeline {
    let (vertex, fragment) = if key.is_headlight {
        ("vs_headlight", "fs_headlight")
    } else {
        ("vs_forward", "fs_forward")
    };
    let desc = PipelineDesc {
        label: "forward",
        module: &shader(device, "forward", FORWARD),
        vertex,
        buffers: &[Some(wgpu::VertexBufferLayout {
            array_stride: size_of::<ForwardVertex>() as u64,
            step_mode: wgpu::VertexStepMode::Vertex,
            attributes: &wgpu::vertex_attr_array![0 => Float32x3, 1 => Float32x3],
        })],
        fragment,
        constants: &light_constants(key),
        targets: &[Some(Attachment::Color.format(key.target).into())],
        samples: key.target.samples,
        has_depth: true,
    };
    desc.pipeline(device, &[Some(view_layout)])
}

fn visibility_pipeline(
    device: &wgpu::Device,
    key: PipelineKey,
    [view_layout, scene_layout]: [&wgpu::BindGroupLayout; 2],
) -> wgpu::RenderPipeline {
    let desc = PipelineDesc {
        label: "visibility",
        module: &shader(device, "visibility", VISIBILITY),
        vertex: "vs_main",
        buffers: &[Some(wgpu::VertexBufferLayout {
            array_stride: size_of::<Vertex>() as u64,
            step_mode: wgpu::VertexStepMode::Vertex,
            attributes: &wgpu::vertex_attr_array![0 => Float32x3, 1 => Uint32],
        })],
        fragment: if key.has_alpha_test {
            "fs_visibility_alpha_test"
        } else {
            "fs_visibility"
        },
        constants: &[flags_constant(key)],
        targets: &[Some(TRIANGLE_ID_FORMAT.into())],
        samples: key.target.samples,
        has_depth: true,
    };
    desc.pipeline(device, &[Some(view_layout), Some(scene_layout)])
}

impl Resolve {
    fn new(
        device: &wgpu::Device,
        key: PipelineKey,
        [view_layout, scene_layout]: [&wgpu::BindGroupLayout; 2],
    ) -> Self {
        let TargetKey {
            samples, channels, ..
        } = key.target;
        let visibility_layout = bind_group_layout(
            device,
            "target",
            &[
                texture_entry(0, wgpu::TextureSampleType::Uint, samples),
                texture_entry(1, wgpu::TextureSampleType::Depth, samples),
            ],
        );
        let source = if samples == 1 {
            RESOLVE_SINGLE_SAMPLE
        } else {
            RESOLVE_MULTISAMPLE
        };
        let targets = Attachment::ALL.map(|attachment| {
            let is_present = key.target.attachments().any(|other| other == attachment);
            is_present.then(|| attachment.format(key.target).into())
        });
        let mut constants = light_constants(key).to_vec();
        constants.extend([
            ("NEEDS_COLOR", to_constant(channels.color)),
            ("NEEDS_SURFACE", to_constant(key.target.needs_surface())),
            ("HAS_EARLIER", to_constant(key.has_earlier)),
        ]);
        let desc = PipelineDesc {
            label: "resolve",
            module: &shader(device, "resolve", source),
            vertex: "vs_fullscreen",
            buffers: &[],
            fragment: "fs_resolve",
            constants: &constants,
            targets: &targets,
            samples: 1,
            has_depth: false,
        };
        let groups = [Some(view_layout), Some(scene_layout), Some(&visibility_layout)];
        let pipeline = desc.pipeline(device, &groups);
        Self {
            visibility_layout,
            pipeline,
        }
    }
}

/// Pipeline constant of `view.wgsl`.
fn flags_constant(key: PipelineKey) -> (&'static str, f64) {
    ("FLAGS", f64::from(key.flags))
}

/// Pipeline constants of `view.wgsl` and `light.wgsl`.
fn light_constants(key: PipelineKey) -> [(&'static str, f64); 4] {
    [
        flags_constant(key),
        ("IS_GRAY", to_constant(key.target.color_kind == ColorKind::Gray)),
        ("NUM_LIGHTS", f64::from(key.num_lights)),
        ("LIGHT_KINDS", f64::from(key.light_kinds)),
    ]
}

fn to_constant(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

impl PipelineDesc<'_> {
    fn pipeline(
        &self,
        device: &wgpu::Device,
        groups: &[Option<&wgpu::BindGroupLayout>],
    ) -> wgpu::RenderPipeline {
        let compilation_options = wgpu::PipelineCompilationOptions {
            constants: self.constants,
            ..wgpu::PipelineCompilationOptions::default()
        };
        device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
            label: Some(self.label),
            layout: Some(&device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(self.label),
                bind_group_layouts: groups,
                immediate_size: 0,
            })),
            vertex: wgpu::VertexState {
                module: self.module,
                entry_point: Some(self.vertex),
                compilation_options: compilation_options.clone(),
                buffers: self.buffers,
            },
            // No face culling: both sides of a face are visible.
            primitive: wgpu::PrimitiveState {
                cull_mode: None,
                ..wgpu::PrimitiveState::default()
            },
            depth_stencil: self.has_depth.then(|| wgpu::DepthStencilState {
                format: DEPTH_FORMAT,
                depth_write_enabled: Some(true),
                depth_compare: Some(wgpu::CompareFunction::Less),
                stencil: wgpu::StencilState::default(),
                bias: wgpu::DepthBiasState::default(),
            }),
            multisample: wgpu::MultisampleState {
                count: self.samples,
                ..wgpu::MultisampleState::default()
            },
            fragment: Some(wgpu::FragmentState {
                module: self.module,
                entry_point: Some(self.fragment),
                compilation_options,
                targets: self.targets,
            }),
            multiview_mask: None,
            cache: None,
        })
    }
}

fn bind_group_layout(
    device: &wgpu::Device,
    label: &str,
    entries: &[wgpu::BindGroupLayoutEntry],
) -> wgpu::BindGroupLayout {
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some(label),
        entries,
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
        visibility: wgpu::ShaderStages::FRAGMENT,
        ty: wgpu::BindingType::Texture {
            sample_type,
            view_dimension: wgpu::TextureViewDimension::D2,
            multisampled: samples > 1,
        },
        count: None,
    }
}
