//! WGSL of the renderer and the structs it reads.
//!
//! Both sides of each agreement live here, and a test parses the one to hold it against the other.

use bytemuck::{Pod, Zeroable};
use glam::{Vec2, Vec3};

/// Draws a view: `place`, `shade`, `shade_and_normal`.
pub const DRAW: &str = concat!(
    include_str!("../wgsl/view.wgsl"),
    include_str!("../wgsl/draw.wgsl")
);

/// Resolves a view that has one sample a pixel: `resolve_shades`, `resolve_distances`, `resolve_normals`.
pub const RESOLVE_ONE: &str = concat!(
    include_str!("../wgsl/view.wgsl"),
    include_str!("../wgsl/samples_one.wgsl"),
    include_str!("../wgsl/resolve.wgsl")
);

/// Resolves a view that has four samples a pixel; the entry points of [`RESOLVE_ONE`].
pub const RESOLVE_MANY: &str = concat!(
    include_str!("../wgsl/view.wgsl"),
    include_str!("../wgsl/samples_many.wgsl"),
    include_str!("../wgsl/resolve.wgsl")
);

/// Invocations in a workgroup of the resolving shaders.
pub const RESOLVE_WORKGROUP: u32 = 64;

/// A corner of a triangle, as `place` reads it.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Vertex {
    /// In object space.
    pub position: [f32; 3],
    /// Unit normal, in object space, of the triangle of which this is the first corner.
    pub normal: [f32; 3],
}

/// One view, as all shaders read it: `ViewUniform` in `view.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct ViewUniform {
    /// Column by column, as the GPU wants it.
    pub clip_from_object: [[f32; 4]; 4],
    /// Column by column.
    pub view_from_object: [[f32; 4]; 4],
    /// The ray through a point of the target is `(pixel * ray_scale + ray_offset, -1)` in view space.
    pub ray_scale: [f32; 2],
    /// See `ray_scale`.
    pub ray_offset: [f32; 2],
    /// `distance = (c[0] * depth + c[1]) / (c[2] * depth + c[3])`.
    pub distance_from_depth: [f32; 4],
    /// Part of the light that comes from everywhere.
    pub ambient: f32,
    /// Part of the light that comes from the eye.
    pub diffuse: f32,
    /// Top left pixel of the view in the target.
    pub origin_px: [u32; 2],
}

/// Where a view's words go, as the resolving shaders read it: `ResolveUniform` in `resolve.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ResolveUniform {
    /// Side of the view, in pixels.
    pub size_px: u32,
    /// First word of its shades, four pixels a word.
    pub first_shade: u32,
    /// First word of its distances, one pixel a word.
    pub first_distance: u32,
    /// First word of its normals, one pixel a word.
    pub first_normal: u32,
}

/// Unfolds what `octahedral` in `draw.wgsl` folded and `resolve_normals` packed.
#[must_use]
pub fn octahedral_normal(packed: u32) -> Vec3 {
    let folded = Vec2::new((packed & 0xffff) as f32, (packed >> 16) as f32) / 32767.0 - Vec2::ONE;
    let z = 1.0 - folded.x.abs() - folded.y.abs();
    let flat = if z < 0.0 {
        (1.0 - Vec2::new(folded.y, folded.x).abs()) * folded.signum()
    } else {
        folded
    };
    flat.extend(z).normalize()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::mem::{offset_of, size_of};

    use naga::valid::{Capabilities, ValidationFlags, Validator};
    use naga::{Module, TypeInner};

    use super::*;

    const SOURCES: [(&str, &str); 3] = [
        ("draw", DRAW),
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
        ($source:expr, $name:ident { $($field:ident),* }) => {
            // Destructured, so that a new field cannot be forgotten here.
            let $name { $($field: _),* } = $name::zeroed();
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
                    distance_from_depth,
                    ambient,
                    diffuse,
                    origin_px
                }
            );
        }
        for source in [RESOLVE_ONE, RESOLVE_MANY] {
            assert_same_layout!(
                source,
                ResolveUniform {
                    size_px,
                    first_shade,
                    first_distance,
                    first_normal
                }
            );
        }
    }

    #[test]
    fn vertices_are_two_vectors_of_three() {
        let Vertex {
            position: _,
            normal: _,
        } = Vertex::zeroed();
        assert_eq!(offset_of!(Vertex, position), 0);
        assert_eq!(offset_of!(Vertex, normal), 12);
        assert_eq!(size_of::<Vertex>(), 24);
        let module = parse(DRAW);
        let place = &module
            .entry_points
            .iter()
            .find(|entry| entry.name == "place")
            .unwrap()
            .function;
        for argument in &place.arguments {
            let TypeInner::Vector {
                size: naga::VectorSize::Tri,
                scalar,
            } = module.types[argument.ty].inner
            else {
                panic!("an argument of `place` is no vector of three");
            };
            assert_eq!(scalar, naga::Scalar::F32, "of 32-bit numbers");
        }
        assert_eq!(place.arguments.len(), 2, "position and normal");
    }

    #[test]
    fn workgroups_have_the_size_that_the_host_counts_with() {
        for source in [RESOLVE_ONE, RESOLVE_MANY] {
            for entry in &parse(source).entry_points {
                assert_eq!(entry.workgroup_size, [RESOLVE_WORKGROUP, 1, 1], "{}", entry.name);
            }
        }
    }

    /// The same folding as in `draw.wgsl`.
    fn fold(normal: Vec3) -> u32 {
        let flat = normal.truncate() / normal.abs().element_sum();
        let sign = Vec2::new(
            if flat.x < 0.0 { -1.0 } else { 1.0 },
            if flat.y < 0.0 { -1.0 } else { 1.0 },
        );
        let folded = if normal.z < 0.0 {
            (1.0 - Vec2::new(flat.y, flat.x).abs()) * sign
        } else {
            flat
        };
        let [x, y] = ((folded + 1.0) * 32767.0).round().to_array();
        x as u32 | (y as u32) << 16
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
                let back = octahedral_normal(fold(normal));
                assert!((back - normal).length() < 1e-4, "{normal} became {back}");
            }
        }
    }
}
