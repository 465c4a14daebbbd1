//! `PipelineKey`: what shaders and attachments are specialized for. It is the same for all views of a mesh.

use tap_shaders::ViewUniform;

use crate::job::RenderJob;
use crate::lighting::ColorKind;
use crate::lighting::{MaterialChoice, Normals};
use crate::recipe::Channels;
use crate::scene::Headlight;

/// Selects pipelines and attachments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PipelineKey {
    pub(super) target: TargetKey,
    /// [`ViewUniform::flags`].
    pub(super) flags: u32,
    /// [`ViewUniform::num_lights`].
    pub(super) num_lights: u32,
    /// Two bits per light: its [`kind`](tap_shaders::LightUniform::kind).
    pub(super) light_kinds: u32,
    /// Is the only light a gray headlight?
    pub(super) is_headlight: bool,
    /// Does any material have an alpha cutoff?
    pub(super) has_alpha_test: bool,
    /// Does any triangle have a list of earlier ones of its plane?
    pub(super) has_earlier: bool,
}

/// Selects attachments. It does not depend on the mesh, so a run over many meshes keeps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TargetKey {
    pub(super) samples: u32,
    pub(super) channels: Channels,
    pub(super) color_kind: ColorKind,
    /// Forward shading in the geometry pass, instead of a visibility buffer and a resolve pass. With several samples
    /// per pixel the resolve pass is no slower, and it rounds their mean as the CPU does.
    pub(super) is_forward: bool,
}

/// A color attachment that is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attachment {
    /// Always present, since it carries coverage: in its last channel, or, if it has only one, as values below white.
    Color,
    Depth,
    Normal,
    Albedo,
    Labels,
}

impl PipelineKey {
    /// `uniform` may be of any view.
    pub(super) fn new(job: &RenderJob, uniform: &ViewUniform) -> Self {
        let recipe = &job.recipe;
        let lighting = &recipe.lighting;
        let lights = &uniform.lights[..uniform.num_lights as usize];
        let channels = recipe.channels;
        let color_alone = Channels {
            color: channels.color,
            mask: channels.mask,
            ..Channels::NONE
        };
        Self {
            target: TargetKey {
                samples: recipe.samples,
                channels,
                color_kind: lighting.color_kind(),
                is_forward: recipe.samples == 1
                    && channels == color_alone
                    && lighting.material == MaterialChoice::White
                    && lighting.normals == Normals::Flat,
            },
            flags: uniform.flags,
            num_lights: uniform.num_lights,
            light_kinds: (0..).zip(lights).map(|(i, light)| light.kind << (2 * i)).sum(),
            is_headlight: lighting.color_kind() == ColorKind::Gray
                && Headlight::from_uniform(uniform).is_some(),
            has_alpha_test: job.scene.has_alpha_test,
            has_earlier: !job.scene.earlier.is_empty(),
        }
    }
}

impl TargetKey {
    /// The attachments that are read back.
    pub(super) fn attachments(self) -> impl Iterator<Item = Attachment> {
        Attachment::ALL
            .into_iter()
            .filter(move |attachment| attachment.is_in(self.channels))
    }

    /// Is any channel of the G-buffer requested?
    pub(super) fn needs_surface(self) -> bool {
        self.attachments().count() > 1
    }
}

impl Attachment {
    /// In the order of the output locations in `resolve.wgsl`.
    pub(super) const ALL: [Self; 5] = [Self::Color, Self::Depth, Self::Normal, Self::Albedo, Self::Labels];

    fn is_in(self, channels: Channels) -> bool {
        match self {
            Self::Color => true,
            Self::Depth => channels.depth,
            Self::Normal => channels.normal,
            Self::Albedo => channels.albedo,
            Self::Labels => channels.part || channels.material,
        }
    }

    pub(super) fn format(self, target: TargetKey) -> wgpu::TextureFormat {
        match self {
            Self::Color => match target.color_kind {
                ColorKind::Gray if target.is_forward => wgpu::TextureFormat::R8Unorm,
                ColorKind::Gray => wgpu::TextureFormat::Rg8Unorm,
                ColorKind::Rgb => wgpu::TextureFormat::Rgba8Unorm,
            },
            Self::Depth => wgpu::TextureFormat::R32Float,
            Self::Albedo => wgpu::TextureFormat::Rgba8Unorm,
            Self::Normal | Self::Labels => wgpu::TextureFormat::R32Uint,
        }
    }

    pub(super) fn bytes_per_pixel(self, target: TargetKey) -> u32 {
        match self.format(target) {
            wgpu::TextureFormat::R8Unorm => 1,
            wgpu::TextureFormat::Rg8Unorm => 2,
            _ => 4,
        }
    }
}
