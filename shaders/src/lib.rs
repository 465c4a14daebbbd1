//! The renderer's WGSL and the structs that it shares with Rust.
//!
//! Layouts and constants are declared on both sides; the tests parse the WGSL with naga and compare. The CPU backend
//! reads the same structs.

use bytemuck::{Pod, Zeroable};
use glam::{Vec2, Vec3};

/// Geometry pass that writes a visibility buffer: `vs_main`, `fs_visibility`, `fs_visibility_alpha_test`.
pub const VISIBILITY: &str = concat!(
    include_str!("../wgsl/view.wgsl"),
    include_str!("../wgsl/surface.wgsl"),
    include_str!("../wgsl/visibility.wgsl")
);

/// Forward shading of flat white faces: `vs_forward`, `fs_forward`; for a single gray headlight `vs_headlight`,
/// `fs_headlight`.
pub const FORWARD: &str = concat!(
    include_str!("../wgsl/view.wgsl"),
    include_str!("../wgsl/surface.wgsl"),
    include_str!("../wgsl/light.wgsl"),
    include_str!("../wgsl/forward.wgsl")
);

/// Shades and resolves a visibility buffer of one sample per pixel: `vs_fullscreen`, `fs_resolve`.
pub const RESOLVE_SINGLE_SAMPLE: &str = concat!(
    include_str!("../wgsl/view.wgsl"),
    include_str!("../wgsl/surface.wgsl"),
    include_str!("../wgsl/light.wgsl"),
    include_str!("../wgsl/single_sample.wgsl"),
    include_str!("../wgsl/resolve.wgsl")
);

/// Shades and resolves a visibility buffer of four samples per pixel: `vs_fullscreen`, `fs_resolve`.
pub const RESOLVE_MULTISAMPLE: &str = concat!(
    include_str!("../wgsl/view.wgsl"),
    include_str!("../wgsl/surface.wgsl"),
    include_str!("../wgsl/light.wgsl"),
    include_str!("../wgsl/multisample.wgsl"),
    include_str!("../wgsl/resolve.wgsl")
);

/// Length of [`ViewUniform::lights`].
pub const MAX_LIGHTS: usize = 8;

/// Flag of [`ViewUniform::flags`]: the projection is orthographic, not perspective.
pub const ORTHOGRAPHIC: u32 = 1;
/// Flag of [`ViewUniform::flags`]: the mesh's own materials are shaded, not white.
pub const OWN_MATERIAL: u32 = 2;
/// Flag of [`ViewUniform::flags`]: normals are interpolated from the corners, not flat.
pub const SMOOTH_NORMALS: u32 = 4;
/// Flag of [`ViewUniform::flags`]: two-sided lighting, `|n.l|` in place of `max(n.l, 0)`.
pub const TWO_SIDED: u32 = 8;
/// Flag of [`ViewUniform::flags`]: the color is the normal in view space, `(n + 1) / 2`, not lit.
pub const SHOW_NORMALS: u32 = 16;
/// Flag of [`ViewUniform::flags`]: Blinn-Phong specular term.
pub const SPECULAR: u32 = 32;
/// Flag of [`ViewUniform::flags`]: hemisphere ambient term, from sky and ground.
pub const HEMISPHERE: u32 = 64;
/// Flag of [`ViewUniform::flags`]: the color is how near the point is, not lit.
pub const SHOW_DEPTH: u32 = 128;

/// [`LightUniform::kind`] of a light at the eye.
pub const LIGHT_HEADLIGHT: u32 = 0;
/// [`LightUniform::kind`] of a directional light.
pub const LIGHT_DIRECTIONAL: u32 = 1;
/// [`LightUniform::kind`] of a point light.
pub const LIGHT_POINT: u32 = 2;

/// [`Material::texture`] of a material without one.
pub const NO_TEXTURE: u32 = u32::MAX;
/// `u32` words of a texture header: offset of the first texel, width, height, number of mip levels, wrap mode of u and
/// of v.
pub const TEXTURE_HEADER: usize = 6;
/// Wrap mode: repeat.
pub const WRAP_REPEAT: u32 = 0;
/// Wrap mode: mirrored repeat.
pub const WRAP_MIRROR: u32 = 1;
/// Wrap mode: clamp to edge.
pub const WRAP_CLAMP: u32 = 2;

/// Part and material labels of a pixel that no triangle covers.
pub const NO_LABELS: u32 = u32::MAX;

/// Vertex of the geometry pass, as `vs_main` reads it.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Vertex {
    /// In object space.
    pub position: [f32; 3],
    /// The triangle whose provoking (first) vertex this is.
    pub triangle: u32,
}

/// Vertex of the forward pass, as `vs_forward` and `vs_headlight` read it.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct ForwardVertex {
    /// In object space.
    pub position: [f32; 3],
    /// Unit normal, in object space, of the triangle whose provoking (first) vertex this is.
    pub normal: [f32; 3],
}

/// A triangle, as `surface.wgsl` reads it.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Triangle {
    /// Unit normal, in object space.
    pub normal: [f32; 3],
    /// Part in the lower half, material in the upper.
    pub labels: u32,
    /// Index of the first corner into the points.
    pub a: u32,
    /// Index of the second corner.
    pub b: u32,
    /// Index of the third corner.
    pub c: u32,
    /// Start of its list of earlier triangles; 0 if it has none.
    pub earlier: u32,
}

/// Attributes of a triangle's corner, as `surface.wgsl` reads them.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Corner {
    /// Texture coordinates, v downwards from the top.
    pub uv: [f32; 2],
    /// Smooth normal in object space, packed by [`encode_octahedral`].
    pub normal: u32,
    /// RGBA8, red in the lowest byte.
    pub color: u32,
}

/// A material, as `surface.wgsl` reads it.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Material {
    /// RGBA8, red in the lowest byte.
    pub base_color: u32,
    /// Offset of its texture header in the texture words, or [`NO_TEXTURE`].
    pub texture: u32,
    /// Fragments with less alpha are discarded; 0 turns the alpha test off.
    pub alpha_cutoff: f32,
    /// Padding.
    pub pad: u32,
}

/// A light, as `view.wgsl` reads it.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct LightUniform {
    /// In view space: the unit vector towards a directional light, or the position of a point light.
    pub vector: [f32; 3],
    /// One of the `LIGHT_` constants.
    pub kind: u32,
    /// RGB intensity.
    pub color: [f32; 3],
    /// Padding.
    pub pad: f32,
}

/// Uniforms of one view: `ViewUniform` in `view.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct ViewUniform {
    /// Column-major.
    pub clip_from_object: [[f32; 4]; 4],
    /// Column-major.
    pub view_from_object: [[f32; 4]; 4],
    /// `pixel * ray_scale + ray_offset` is, in view space, the ray's direction at z = -1, or under orthographic
    /// projection its origin on the plane z = 0.
    pub ray_scale: [f32; 2],
    /// See `ray_scale`.
    pub ray_offset: [f32; 2],
    /// Top left pixel of the view in the render target.
    pub origin_px: [u32; 2],
    /// Side of the view, in pixels.
    pub size_px: u32,
    /// Bitwise or of [`ORTHOGRAPHIC`] and the other flags. It is the same in all views of a job, so shaders get it as a
    /// pipeline constant.
    pub flags: u32,
    /// Ambient RGB, in every direction.
    pub ambient: [f32; 3],
    /// Diffuse coefficient.
    pub diffuse: f32,
    /// Ambient RGB from above.
    pub sky: [f32; 3],
    /// Specular coefficient.
    pub specular: f32,
    /// Ambient RGB from below.
    pub ground: [f32; 3],
    /// Blinn-Phong exponent.
    pub shininess: f32,
    /// RGB8, red in the lowest byte.
    pub background: u32,
    /// Number of `lights` in use.
    pub num_lights: u32,
    /// Padding.
    pub pad: [u32; 2],
    /// The first `num_lights` are in use.
    pub lights: [LightUniform; MAX_LIGHTS],
}

/// Half of the largest 16-bit coordinate: maps -1..1 to 0..65534.
const OCTAHEDRAL_SCALE: f32 = 32767.0;

/// Octahedral encoding of a unit vector in two 16-bit numbers, x in the lower half; `encode_octahedral` of
/// `surface.wgsl`.
#[must_use]
pub fn encode_octahedral(normal: Vec3) -> u32 {
    let flat = normal.truncate() / (normal.x.abs() + normal.y.abs() + normal.z.abs());
    let encoded = if normal.z < 0.0 {
        (1.0 - Vec2::new(flat.y, flat.x).abs()) * sign_or_one(flat)
    } else {
        flat
    };
    let both = (encoded.clamp(Vec2::NEG_ONE, Vec2::ONE) + 1.0) * OCTAHEDRAL_SCALE + 0.5;
    both.x as u32 | (both.y as u32) << 16
}

/// The unit vector that [`encode_octahedral`] packed.
#[must_use]
pub fn decode_octahedral(packed: u32) -> Vec3 {
    let encoded = Vec2::new((packed & 0xffff) as f32, (packed >> 16) as f32) / OCTAHEDRAL_SCALE - Vec2::ONE;
    let z = 1.0 - encoded.x.abs() - encoded.y.abs();
    let flat = if z < 0.0 {
        (1.0 - Vec2::new(encoded.y, encoded.x).abs()) * sign_or_one(encoded)
    } else {
        encoded
    };
    flat.extend(z).normalize()
}

fn sign_or_one(x: Vec2) -> Vec2 {
    Vec2::select(x.cmpge(Vec2::ZERO), Vec2::ONE, Vec2::NEG_ONE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::mem::{offset_of, size_of};

    use naga::valid::{Capabilities, ValidationFlags, Validator};
    use naga::{Module, TypeInner};

    use super::*;

    const SOURCES: [(&str, &str); 4] = [
        ("visibility", VISIBILITY),
        ("forward", FORWARD),
        ("resolve, single sample", RESOLVE_SINGLE_SAMPLE),
        ("resolve, multisample", RESOLVE_MULTISAMPLE),
    ];

    fn parse(source: &str) -> Module {
        naga::front::wgsl::parse_str(source)
            .unwrap_or_else(|error| panic!("{}", error.emit_to_string(source)))
    }

    /// Offsets of a struct's members by name, and its size, in WGSL's layout.
    fn layout(module: &Module, name: &str) -> (Vec<(String, usize)>, usize) {
        let (_, ty) = module
            .types
            .iter()
            .find(|(_, ty)| ty.name.as_deref() == Some(name))
            .unwrap();
        let TypeInner::Struct { members, span } = &ty.inner else {
            panic!("{name} is not a struct")
        };
        let offsets = members
            .iter()
            .map(|member| (member.name.clone().unwrap(), member.offset as usize))
            .collect();
        (offsets, *span as usize)
    }

    macro_rules! assert_same_layout {
        // Fields after `and` are trailing padding that WGSL leaves implicit.
        ($source:expr, $name:ident { $($field:ident),* } and { $($padding:ident),* }) => {
            // Destructured exhaustively, so that a new field cannot be forgotten here.
            let $name { $($field: _,)* $($padding: _),* } = $name::zeroed();
            let (offsets, size) = layout(&parse($source), stringify!($name));
            let expected = vec![$((stringify!($field).to_owned(), offset_of!($name, $field))),*];
            assert_eq!(offsets, expected, "members of {}", stringify!($name));
            assert_eq!(size, size_of::<$name>(), "size of {}", stringify!($name));
        };
    }

    #[test]
    fn shaders_are_valid() {
        for (name, source) in SOURCES {
            let module = parse(source);
            let mut validator = Validator::new(ValidationFlags::all(), Capabilities::empty());
            if let Err(error) = validator.validate(&module) {
                panic!("{name}: {}", error.emit_to_string(source));
            }
        }
    }

    #[test]
    fn structs_match_the_wgsl_layout() {
        for (_, source) in SOURCES {
            assert_same_layout!(
                source,
                ViewUniform {
                    clip_from_object,
                    view_from_object,
                    ray_scale,
                    ray_offset,
                    origin_px,
                    size_px,
                    flags,
                    ambient,
                    diffuse,
                    sky,
                    specular,
                    ground,
                    shininess,
                    background,
                    num_lights,
                    lights
                } and { pad }
            );
            assert_same_layout!(source, Triangle { normal, labels, a, b, c, earlier } and {});
            assert_same_layout!(source, Corner { uv, normal, color } and {});
            assert_same_layout!(source, Material { base_color, texture, alpha_cutoff, pad } and {});
        }
    }

    #[test]
    fn light_array_has_the_wgsl_stride() {
        let (offsets, _) = layout(&parse(VISIBILITY), "Light");
        let LightUniform {
            vector: _,
            kind: _,
            color: _,
            pad: _,
        } = LightUniform::zeroed();
        let expected = [
            ("vector", offset_of!(LightUniform, vector)),
            ("kind", offset_of!(LightUniform, kind)),
            ("color", offset_of!(LightUniform, color)),
        ];
        assert_eq!(offsets, expected.map(|(name, offset)| (name.to_owned(), offset)));
        let module = parse(VISIBILITY);
        let (stride, count) = module
            .types
            .iter()
            .find_map(|(_, ty)| match ty.inner {
                TypeInner::Array {
                    stride,
                    size: naga::ArraySize::Constant(count),
                    ..
                } => Some((stride as usize, count.get() as usize)),
                _ => None,
            })
            .unwrap();
        assert_eq!((stride, count), (size_of::<LightUniform>(), MAX_LIGHTS));
    }

    #[test]
    fn constants_match_wgsl() {
        let module = parse(RESOLVE_SINGLE_SAMPLE);
        let value = |name: &str| {
            let (_, constant) = module
                .constants
                .iter()
                .find(|(_, constant)| constant.name.as_deref() == Some(name))
                .unwrap_or_else(|| panic!("no constant {name}"));
            match module.global_expressions[constant.init] {
                naga::Expression::Literal(naga::Literal::U32(value)) => value,
                ref other => panic!("{name} is {other:?}"),
            }
        };
        for (name, expected) in [
            ("ORTHOGRAPHIC", ORTHOGRAPHIC),
            ("OWN_MATERIAL", OWN_MATERIAL),
            ("SMOOTH_NORMALS", SMOOTH_NORMALS),
            ("TWO_SIDED", TWO_SIDED),
            ("SHOW_NORMALS", SHOW_NORMALS),
            ("SPECULAR", SPECULAR),
            ("HEMISPHERE", HEMISPHERE),
            ("SHOW_DEPTH", SHOW_DEPTH),
            ("LIGHT_HEADLIGHT", LIGHT_HEADLIGHT),
            ("LIGHT_DIRECTIONAL", LIGHT_DIRECTIONAL),
            ("LIGHT_POINT", LIGHT_POINT),
            ("NO_TEXTURE", NO_TEXTURE),
            ("WRAP_REPEAT", WRAP_REPEAT),
            ("WRAP_MIRROR", WRAP_MIRROR),
        ] {
            assert_eq!(value(name), expected, "{name}");
        }
    }

    #[test]
    fn vertex_layouts_match_the_entry_points() {
        let Vertex {
            position: _,
            triangle: _,
        } = Vertex::zeroed();
        let ForwardVertex {
            position: _,
            normal: _,
        } = ForwardVertex::zeroed();
        let offsets = [
            (offset_of!(Vertex, position), offset_of!(Vertex, triangle)),
            (
                offset_of!(ForwardVertex, position),
                offset_of!(ForwardVertex, normal),
            ),
        ];
        assert_eq!(offsets, [(0, 12); 2]);
        assert_eq!((size_of::<Vertex>(), size_of::<ForwardVertex>()), (16, 24));
        let types = |source, name| {
            let module = parse(source);
            let found = module.entry_points.iter().find(|entry| entry.name == name);
            let arguments = &found.unwrap().function.arguments;
            let types: Vec<_> = arguments
                .iter()
                .map(|argument| module.types[argument.ty].inner.clone())
                .collect();
            types
        };
        let three = TypeInner::Vector {
            size: naga::VectorSize::Tri,
            scalar: naga::Scalar::F32,
        };
        let number = TypeInner::Scalar(naga::Scalar::U32);
        assert_eq!(types(VISIBILITY, "vs_main"), [three.clone(), number]);
        for entry_point in ["vs_forward", "vs_headlight"] {
            assert_eq!(types(FORWARD, entry_point), [three.clone(), three.clone()]);
        }
    }

    #[test]
    fn octahedral_encoding_round_trips() {
        for azimuth_deg in (0_u16..360).step_by(15) {
            for elevation_deg in (-90_i16..=90).step_by(15) {
                let (azimuth, elevation) = (
                    f32::from(azimuth_deg).to_radians(),
                    f32::from(elevation_deg).to_radians(),
                );
                let (sin, cos) = elevation.sin_cos();
                let normal = Vec3::new(azimuth.cos() * cos, azimuth.sin() * cos, sin).normalize();
                let back = decode_octahedral(encode_octahedral(normal));
                assert!((back - normal).length() < 1e-4, "{normal} became {back}");
            }
        }
    }
}
