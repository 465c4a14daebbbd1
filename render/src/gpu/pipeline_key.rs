//! `Plan`: how the views of a mesh are drawn. What it says is the same for all of them, and shaders are made for it.

use tap_shaders::ViewUniform;

use crate::cpu::Headlight;
use crate::job::Framed;
use crate::lighting::{MaterialChoice, Normals};
use crate::recipe::Channels;
use crate::view::ColorKind;

/// What decides about shaders and attachments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) target: TargetPlan,
    /// [`ViewUniform::flags`].
    pub(super) flags: u32,
    /// [`ViewUniform::num_lights`].
    pub(super) num_lights: u32,
    /// Two bits a light: its [`kind`](tap_shaders::LightUniform::kind).
    pub(super) light_kinds: u32,
    /// Is there nothing but the headlight, and is all of it gray?
    pub(super) is_headlit: bool,
    /// Has a material a hole?
    pub(super) has_cutout: bool,
}

/// What decides about attachments: nothing of the mesh, so that they are the same for all meshes of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TargetPlan {
    pub(super) samples: u32,
    pub(super) channels: Channels,
    pub(super) color_kind: ColorKind,
    /// Are faces colored as they are drawn? Otherwise it is noted which of them each sample sees, and colored later. With
    /// several samples the latter costs no more, and rounds their mean as the CPU does.
    pub(super) is_painted: bool,
}

/// A texture that is read back: a plane of pixels of all views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plane {
    /// Always there, since it says what is covered: in its last part, or, where there is one part, by not being white.
    Color,
    Depth,
    Normal,
    Albedo,
    Labels,
}

impl Plan {
    /// `uniform` is any view's.
    pub(super) fn new(framed: &Framed, uniform: &ViewUniform) -> Self {
        let recipe = &framed.recipe;
        let lighting = &recipe.lighting;
        let lights = &uniform.lights[..uniform.num_lights as usize];
        let channels = recipe.channels;
        let color_alone = Channels {
            color: channels.color,
            mask: channels.mask,
            ..Channels::NONE
        };
        Self {
            target: TargetPlan {
                samples: recipe.samples,
                channels,
                color_kind: lighting.color_kind(),
                is_painted: recipe.samples == 1
                    && channels == color_alone
                    && lighting.material == MaterialChoice::White
                    && lighting.normals == Normals::Flat,
            },
            flags: uniform.flags,
            num_lights: uniform.num_lights,
            light_kinds: (0..).zip(lights).map(|(i, light)| light.kind << (2 * i)).sum(),
            is_headlit: lighting.color_kind() == ColorKind::Gray && Headlight::of(uniform).is_some(),
            has_cutout: framed.scene.has_cutout,
        }
    }
}

impl TargetPlan {
    /// What is read back.
    pub(super) fn planes(self) -> impl Iterator<Item = Plane> {
        Plane::ALL
            .into_iter()
            .filter(move |plane| plane.is_in(self.channels))
    }

    /// Is anything asked for of the surface, beside its color?
    pub(super) fn needs_surface(self) -> bool {
        self.planes().count() > 1
    }
}

impl Plane {
    /// In the order of their locations in `resolve.wgsl`.
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

    pub(super) fn format(self, target: TargetPlan) -> wgpu::TextureFormat {
        match self {
            Self::Color => match target.color_kind {
                ColorKind::Gray if target.is_painted => wgpu::TextureFormat::R8Unorm,
                ColorKind::Gray => wgpu::TextureFormat::Rg8Unorm,
                ColorKind::Rgb => wgpu::TextureFormat::Rgba8Unorm,
            },
            Self::Depth => wgpu::TextureFormat::R32Float,
            Self::Albedo => wgpu::TextureFormat::Rgba8Unorm,
            Self::Normal | Self::Labels => wgpu::TextureFormat::R32Uint,
        }
    }

    pub(super) fn bytes_per_pixel(self, target: TargetPlan) -> u32 {
        match self.format(target) {
            wgpu::TextureFormat::R8Unorm => 1,
            wgpu::TextureFormat::Rg8Unorm => 2,
            _ => 4,
        }
    }
}
