// Draws one view of a mesh with flat normals: MVCNN's lighting into one channel, and the normal beside it if asked.
// `view.wgsl` goes before.

@group(0) @binding(0) var<uniform> view: ViewUniform;

// What is not covered keeps the clear value 1, so what is covered must stay below it in 8 bits.
const BRIGHTEST_COVERED = 254.0 / 255.0;

struct Corner {
    @builtin(position) position: vec4f,
    // A triangle's normal stands at its first corner.
    @location(0) @interpolate(flat, first) normal_in_view: vec3f,
}

@vertex
fn place(@location(0) position: vec3f, @location(1) normal: vec3f) -> Corner {
    let rotation = mat3x3f(view.view_from_object[0].xyz, view.view_from_object[1].xyz, view.view_from_object[2].xyz);
    return Corner(view.clip_from_object * vec4f(position, 1.0), rotation * normal);
}

// Of the face, towards the viewer. The ray comes from the pixel and not from an interpolated position, so a pixel whose
// centre lies beyond the face's edge is lit as exactly as any other.
struct Facing {
    normal: vec3f,
    cosine: f32,
}

fn face(corner: Corner) -> Facing {
    let ray = normalize(vec3f(corner.position.xy * view.ray_scale + view.ray_offset, -1.0));
    let away = dot(corner.normal_in_view, ray);
    return Facing(select(corner.normal_in_view, -corner.normal_in_view, away > 0.0), abs(away));
}

fn light(facing: Facing) -> f32 {
    return min(view.ambient + view.diffuse * facing.cosine, BRIGHTEST_COVERED);
}

@fragment
fn shade(corner: Corner) -> @location(0) f32 {
    return light(face(corner));
}

struct ShadeAndNormal {
    @location(0) shade: f32,
    @location(1) normal: vec2u,
}

@fragment
fn shade_and_normal(corner: Corner) -> ShadeAndNormal {
    let facing = face(corner);
    return ShadeAndNormal(light(facing), octahedral(facing.normal));
}

// A unit vector folded onto the square of two 16-bit numbers, +z in the middle. `octahedral_normal` in lib.rs unfolds.
fn octahedral(normal: vec3f) -> vec2u {
    let flat = normal.xy / (abs(normal.x) + abs(normal.y) + abs(normal.z));
    let sign = select(vec2f(-1.0), vec2f(1.0), flat >= vec2f(0.0));
    let folded = select(flat, (1.0 - abs(flat.yx)) * sign, normal.z < 0.0);
    return vec2u(round((clamp(folded, vec2f(-1.0), vec2f(1.0)) + 1.0) * 32767.0));
}
