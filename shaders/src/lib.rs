//! WGSL of the renderer and the structs it reads.
//!
//! Both sides of each agreement live here, and a test parses the one to hold it against the other. The renderer's
//! software twin reads the same structs.

use bytemuck::{Pod, Zeroable};
use glam::{Vec2, Vec3};

/// Says which triangle each sample sees: `place`, `see`, `see_through`.
pub const DRAW: &str = concat!(
    include_str!("../wgsl/view.wgsl"),
    include_str!("../wgsl/surface.wgsl"),
    include_str!("../wgsl/visibility.wgsl")
);

/// Colors faces without asking which they are: `place_face`, `paint`; in a gray headlight alone `place_headlit_face`,
/// `paint_headlit`.
pub const PAINT: &str = concat!(
    include_str!("../wgsl/view.wgsl"),
    include_str!("../wgsl/surface.wgsl"),
    include_str!("../wgsl/light.wgsl"),
    include_str!("../wgsl/forward.wgsl")
);

/// Shades a view that has one sample a pixel: `cover`, `resolve`.
pub const RESOLVE_ONE: &str = concat!(
    include_str!("../wgsl/view.wgsl"),
    include_str!("../wgsl/surface.wgsl"),
    include_str!("../wgsl/light.wgsl"),
    include_str!("../wgsl/single_sample.wgsl"),
    include_str!("../wgsl/resolve.wgsl")
);

/// Shades a view that has four samples a pixel: `cover`, `resolve`.
pub const RESOLVE_MANY: &str = concat!(
    include_str!("../wgsl/view.wgsl"),
    include_str!("../wgsl/surface.wgsl"),
    include_str!("../wgsl/light.wgsl"),
    include_str!("../wgsl/multisample.wgsl"),
    include_str!("../wgsl/resolve.wgsl")
);

/// Lights that a view has room for.
pub const MAX_LIGHTS: usize = 8;

/// In [`ViewUniform::flags`]: rays are parallel.
pub const PARALLEL: u32 = 1;
/// In [`ViewUniform::flags`]: the mesh's own materials are seen, not white.
pub const OWN_MATERIAL: u32 = 2;
/// In [`ViewUniform::flags`]: normals are those of the smooth surface.
pub const SMOOTH: u32 = 4;
/// In [`ViewUniform::flags`]: a surface is lit from behind as from the front.
pub const REVERSE_LIT: u32 = 8;
/// In [`ViewUniform::flags`]: normals are shown as colors instead of light.
pub const SHOW_NORMALS: u32 = 16;
/// In [`ViewUniform::flags`]: lights are mirrored.
pub const GLOSSY: u32 = 32;
/// In [`ViewUniform::flags`]: there is light from above or below.
pub const SKY: u32 = 64;

/// [`LightUniform::kind`]: where the eye is.
pub const LIGHT_AT_EYE: u32 = 0;
/// [`LightUniform::kind`]: in one direction, from everywhere.
pub const LIGHT_DIRECTIONAL: u32 = 1;
/// [`LightUniform::kind`]: at a place.
pub const LIGHT_POINT: u32 = 2;

/// [`Material::texture`] of a material that has none.
pub const NO_TEXTURE: u32 = u32::MAX;
/// Words of a texture's header: first texel, width, height, number of levels, wrap of u and of v.
pub const TEXTURE_HEADER: usize = 6;
/// A texture begins again beyond its border.
pub const WRAP_REPEAT: u32 = 0;
/// A texture is mirrored at its border.
pub const WRAP_MIRROR: u32 = 1;
/// A texture's border goes on for ever.
pub const WRAP_CLAMP: u32 = 2;

/// Labels of a pixel that nothing covers.
pub const NO_LABELS: u32 = u32::MAX;

/// A corner of a triangle, as `place` reads it.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Vertex {
    /// In object space.
    pub position: [f32; 3],
    /// The triangle of which this is the first corner.
    pub triangle: u32,
}

/// A corner of a triangle, as `place_face` reads it.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct FaceVertex {
    /// In object space.
    pub position: [f32; 3],
    /// Unit normal of the triangle of which this is the first corner, in object space.
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
    /// First corner, an index into the points.
    pub a: u32,
    /// Second corner.
    pub b: u32,
    /// Third corner.
    pub c: u32,
    /// Nothing.
    pub pad: u32,
}

/// What a triangle has at one of its corners, as `surface.wgsl` reads it.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Corner {
    /// Place in the texture, v from the top.
    pub uv: [f32; 2],
    /// Normal of the smooth surface in object space, [`fold_normal`]ed.
    pub normal: u32,
    /// Color and alpha, red in the lowest byte.
    pub color: u32,
}

/// A material, as `surface.wgsl` reads it.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Material {
    /// Color and alpha, red in the lowest byte.
    pub base_color: u32,
    /// Where its texture's header begins, or [`NO_TEXTURE`].
    pub texture: u32,
    /// Alpha below it is a hole; 0: there is none.
    pub cutout: f32,
    /// Nothing.
    pub pad: u32,
}

/// A light, as `view.wgsl` reads it.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct LightUniform {
    /// In view space: the unit vector towards the light, or where it is.
    pub vector: [f32; 3],
    /// One of the `LIGHT_` constants.
    pub kind: u32,
    /// How much of each color it gives.
    pub color: [f32; 3],
    /// Nothing.
    pub pad: f32,
}

/// One view, as all shaders read it: `ViewUniform` in `view.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct ViewUniform {
    /// Column by column, as the GPU wants it.
    pub clip_from_object: [[f32; 4]; 4],
    /// Column by column.
    pub view_from_object: [[f32; 4]; 4],
    /// In view space, `pixel * scale + offset` is the ray's direction at z = -1, or its place if rays are parallel.
    pub ray_scale: [f32; 2],
    /// See `ray_scale`.
    pub ray_offset: [f32; 2],
    /// Top left pixel of the view in the target.
    pub origin_px: [u32; 2],
    /// Side of the view.
    pub size_px: u32,
    /// [`PARALLEL`] and its like, or-ed: the same in all views of a mesh, so shaders are made for them and do not read it.
    pub flags: u32,
    /// Light from everywhere.
    pub ambient: [f32; 3],
    /// How much of the lights is scattered.
    pub diffuse: f32,
    /// Light from above.
    pub sky: [f32; 3],
    /// How much of the lights is mirrored.
    pub specular: f32,
    /// Light from below.
    pub ground: [f32; 3],
    /// Sharpness of the mirror.
    pub shininess: f32,
    /// Red in the lowest byte.
    pub background: u32,
    /// How many of `lights` there are.
    pub num_lights: u32,
    /// Nothing.
    pub pad: [u32; 2],
    /// The lights.
    pub lights: [LightUniform; MAX_LIGHTS],
}

/// Side of the square that normals are folded onto.
const FOLDED: f32 = 32767.0;

/// A unit vector on the square of two 16-bit numbers, +z in the middle, as `fold` in `surface.wgsl` makes it.
#[must_use]
pub fn fold_normal(normal: Vec3) -> u32 {
    let flat = normal.truncate() / (normal.x.abs() + normal.y.abs() + normal.z.abs());
    let folded = if normal.z < 0.0 {
        (1.0 - Vec2::new(flat.y, flat.x).abs()) * sign_or_one(flat)
    } else {
        flat
    };
    let both = (folded.clamp(Vec2::NEG_ONE, Vec2::ONE) + 1.0) * FOLDED + 0.5;
    both.x as u32 | (both.y as u32) << 16
}

/// What [`fold_normal`] has folded.
#[must_use]
pub fn unfold_normal(packed: u32) -> Vec3 {
    let folded = Vec2::new((packed & 0xffff) as f32, (packed >> 16) as f32) / FOLDED - Vec2::ONE;
    let z = 1.0 - folded.x.abs() - folded.y.abs();
    let flat = if z < 0.0 {
        (1.0 - Vec2::new(folded.y, folded.x).abs()) * sign_or_one(folded)
    } else {
        folded
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
        ("draw", DRAW),
        ("paint", PAINT),
        ("resolve one", RESOLVE_ONE),
        ("resolve many", RESOLVE_MANY),
    ];

    fn parse(source: &str) -> Module {
        naga::front::wgsl::parse_str(source)
            .unwrap_or_else(|error| panic!("{}", error.emit_to_string(source)))
    }

    /// Offsets of a struct's members by name, and its size, as the GPU lays it out.
    fn layout(module: &Module, name: &str) -> (Vec<(String, usize)>, usize) {
        let (_, ty) = module
            .types
            .iter()
            .find(|(_, ty)| ty.name.as_deref() == Some(name))
            .unwrap();
        let TypeInner::Struct { members, span } = &ty.inner else {
            panic!("{name} is no struct")
        };
        let offsets = members
            .iter()
            .map(|member| (member.name.clone().unwrap(), member.offset as usize))
            .collect();
        (offsets, *span as usize)
    }

    macro_rules! assert_same_layout {
        // Fields after `and` are padding that WGSL has without a name.
        ($source:expr, $name:ident { $($field:ident),* } and { $($padding:ident),* }) => {
            // Destructured, so that a new field cannot be forgotten here.
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
    fn structs_have_the_layout_that_wgsl_gives_them() {
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
            assert_same_layout!(source, Triangle { normal, labels, a, b, c, pad } and {});
            assert_same_layout!(source, Corner { uv, normal, color } and {});
            assert_same_layout!(source, Material { base_color, texture, cutout, pad } and {});
        }
    }

    #[test]
    fn lights_lie_as_wgsl_strides_them() {
        let (offsets, _) = layout(&parse(DRAW), "Light");
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
        let module = parse(DRAW);
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
    fn constants_have_the_same_values() {
        let module = parse(RESOLVE_ONE);
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
            ("PARALLEL", PARALLEL),
            ("OWN_MATERIAL", OWN_MATERIAL),
            ("SMOOTH", SMOOTH),
            ("REVERSE_LIT", REVERSE_LIT),
            ("SHOW_NORMALS", SHOW_NORMALS),
            ("GLOSSY", GLOSSY),
            ("SKY", SKY),
            ("LIGHT_AT_EYE", LIGHT_AT_EYE),
            ("LIGHT_DIRECTIONAL", LIGHT_DIRECTIONAL),
            ("LIGHT_POINT", LIGHT_POINT),
            ("NO_TEXTURE", NO_TEXTURE),
            ("REPEAT", WRAP_REPEAT),
            ("MIRROR", WRAP_MIRROR),
        ] {
            assert_eq!(value(name), expected, "{name}");
        }
    }

    #[test]
    fn vertices_are_what_the_shaders_take() {
        let Vertex {
            position: _,
            triangle: _,
        } = Vertex::zeroed();
        let FaceVertex {
            position: _,
            normal: _,
        } = FaceVertex::zeroed();
        let offsets = [
            (offset_of!(Vertex, position), offset_of!(Vertex, triangle)),
            (offset_of!(FaceVertex, position), offset_of!(FaceVertex, normal)),
        ];
        assert_eq!(offsets, [(0, 12); 2]);
        assert_eq!((size_of::<Vertex>(), size_of::<FaceVertex>()), (16, 24));
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
        assert_eq!(types(DRAW, "place"), [three.clone(), number]);
        for entry_point in ["place_face", "place_headlit_face"] {
            assert_eq!(types(PAINT, entry_point), [three.clone(), three.clone()]);
        }
    }

    #[test]
    fn normals_survive_the_folding() {
        for azimuth_deg in (0_u16..360).step_by(15) {
            for elevation_deg in (-90_i16..=90).step_by(15) {
                let (azimuth, elevation) = (
                    f32::from(azimuth_deg).to_radians(),
                    f32::from(elevation_deg).to_radians(),
                );
                let (sin, cos) = elevation.sin_cos();
                let normal = Vec3::new(azimuth.cos() * cos, azimuth.sin() * cos, sin).normalize();
                let back = unfold_normal(fold_normal(normal));
                assert!((back - normal).length() < 1e-4, "{normal} became {back}");
            }
        }
    }
}
