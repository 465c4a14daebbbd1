//! Pipelines and their bind group layouts, made for a [`Plan`].

use tap_shaders::{DRAW, FaceVertex, PAINT, RESOLVE_MANY, RESOLVE_ONE, Vertex};
use wgpu::BufferBindingType::{Storage, Uniform};

use super::pipeline_key::{Plan, Plane, TargetPlan};
use super::target::{DEPTH_FORMAT, NAME_FORMAT};
use crate::view::ColorKind;

/// All that draws views as one plan has it.
#[derive(Debug)]
pub(super) struct Pipelines {
    pub(super) plan: Plan,
    /// Group 0: the view.
    pub(super) view_layout: wgpu::BindGroupLayout,
    /// Group 1: the arrays of the scene.
    pub(super) scene_layout: wgpu::BindGroupLayout,
    /// Draws triangles: their colors, or which ones samples see.
    pub(super) draw: wgpu::RenderPipeline,
    /// What there is to do with names.
    pub(super) resolve: Option<Resolve>,
}

/// Colors what samples see.
#[derive(Debug)]
pub(super) struct Resolve {
    /// Group 2: the target's textures.
    pub(super) target_layout: wgpu::BindGroupLayout,
    pub(super) pipeline: wgpu::RenderPipeline,
}

/// What pipelines differ in.
struct Stages<'a> {
    label: &'a str,
    module: &'a wgpu::ShaderModule,
    vertex: &'a str,
    buffers: &'a [Option<wgpu::VertexBufferLayout<'a>>],
    fragment: &'a str,
    constants: &'a [(&'a str, f64)],
    targets: &'a [Option<wgpu::ColorTargetState>],
    /// Of the attachments.
    samples: u32,
    has_depth: bool,
}

impl Pipelines {
    pub(super) fn new(device: &wgpu::Device, plan: Plan) -> Self {
        let both = wgpu::ShaderStages::VERTEX_FRAGMENT;
        let view_layout = bind_group_layout(device, "view", &[buffer_entry(0, both, Uniform, true)]);
        let read_only = Storage { read_only: true };
        let fragment = wgpu::ShaderStages::FRAGMENT;
        let arrays = [0, 1, 2, 3, 4].map(|binding| buffer_entry(binding, fragment, read_only, false));
        let scene_layout = bind_group_layout(device, "scene", &arrays);
        let draw = if plan.target.is_painted {
            paint(device, plan, &view_layout)
        } else {
            see(device, plan, [&view_layout, &scene_layout])
        };
        let resolve =
            (!plan.target.is_painted).then(|| Resolve::new(device, plan, [&view_layout, &scene_layout]));
        Self {
            plan,
            view_layout,
            scene_layout,
            draw,
            resolve,
        }
    }
}

fn paint(device: &wgpu::Device, plan: Plan, view_layout: &wgpu::BindGroupLayout) -> wgpu::RenderPipeline {
    let (vertex, fragment) = if plan.is_headlit {
        ("place_headlit_face", "paint_headlit")
    } else {
        ("place_face", "paint")
    };
    let stages = Stages {
        label: "paint",
        module: &shader(device, "paint", PAINT),
        vertex,
        buffers: &[Some(wgpu::VertexBufferLayout {
            array_stride: size_of::<FaceVertex>() as u64,
            step_mode: wgpu::VertexStepMode::Vertex,
            attributes: &wgpu::vertex_attr_array![0 => Float32x3, 1 => Float32x3],
        })],
        fragment,
        constants: &light_constants(plan),
        targets: &[Some(Plane::Color.format(plan.target).into())],
        samples: plan.target.samples,
        has_depth: true,
    };
    stages.pipeline(device, &[Some(view_layout)])
}

fn see(
    device: &wgpu::Device,
    plan: Plan,
    [view_layout, scene_layout]: [&wgpu::BindGroupLayout; 2],
) -> wgpu::RenderPipeline {
    let stages = Stages {
        label: "see",
        module: &shader(device, "draw", DRAW),
        vertex: "place",
        buffers: &[Some(wgpu::VertexBufferLayout {
            array_stride: size_of::<Vertex>() as u64,
            step_mode: wgpu::VertexStepMode::Vertex,
            attributes: &wgpu::vertex_attr_array![0 => Float32x3, 1 => Uint32],
        })],
        fragment: if plan.has_cutout { "see_through" } else { "see" },
        constants: &[flags(plan)],
        targets: &[Some(NAME_FORMAT.into())],
        samples: plan.target.samples,
        has_depth: true,
    };
    stages.pipeline(device, &[Some(view_layout), Some(scene_layout)])
}

impl Resolve {
    fn new(
        device: &wgpu::Device,
        plan: Plan,
        [view_layout, scene_layout]: [&wgpu::BindGroupLayout; 2],
    ) -> Self {
        let TargetPlan {
            samples, channels, ..
        } = plan.target;
        let target_layout = bind_group_layout(
            device,
            "target",
            &[
                texture_entry(0, wgpu::TextureSampleType::Uint, samples),
                texture_entry(1, wgpu::TextureSampleType::Depth, samples),
            ],
        );
        let source = if samples == 1 { RESOLVE_ONE } else { RESOLVE_MANY };
        let targets = Plane::ALL.map(|plane| {
            let is_there = plan.target.planes().any(|other| other == plane);
            is_there.then(|| plane.format(plan.target).into())
        });
        let mut constants = light_constants(plan).to_vec();
        constants.extend([
            ("NEEDS_COLOR", number(channels.color)),
            ("NEEDS_SURFACE", number(plan.target.needs_surface())),
        ]);
        let stages = Stages {
            label: "resolve",
            module: &shader(device, "resolve", source),
            vertex: "cover",
            buffers: &[],
            fragment: "resolve",
            constants: &constants,
            targets: &targets,
            samples: 1,
            has_depth: false,
        };
        let groups = [Some(view_layout), Some(scene_layout), Some(&target_layout)];
        let pipeline = stages.pipeline(device, &groups);
        Self {
            target_layout,
            pipeline,
        }
    }
}

/// The overrides of `view.wgsl`.
fn flags(plan: Plan) -> (&'static str, f64) {
    ("FLAGS", f64::from(plan.flags))
}

/// The overrides of `view.wgsl` and `light.wgsl`.
fn light_constants(plan: Plan) -> [(&'static str, f64); 4] {
    [
        flags(plan),
        ("IS_GRAY", number(plan.target.color_kind == ColorKind::Gray)),
        ("NUM_LIGHTS", f64::from(plan.num_lights)),
        ("LIGHT_KINDS", f64::from(plan.light_kinds)),
    ]
}

fn number(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

impl Stages<'_> {
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
            // Both sides of a face are seen.
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
