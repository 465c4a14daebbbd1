// What a draw of one view needs. Its twin is `ViewUniform` in lib.rs; a test holds the two together.
struct ViewUniform {
    clip_from_object: mat4x4f,
    view_from_object: mat4x4f,
    // In view space, `pixel * scale + offset` is the ray's direction at z = -1, or its place if rays are parallel.
    ray_scale: vec2f,
    ray_offset: vec2f,
    // Top left pixel of the view in the target.
    origin_px: vec2u,
    size_px: u32,
    // FLAGS, for the CPU.
    flags: u32,
    ambient: vec3f,
    diffuse: f32,
    sky: vec3f,
    specular: f32,
    ground: vec3f,
    shininess: f32,
    // Red in the lowest byte.
    background: u32,
    // NUM_LIGHTS, for the CPU.
    num_lights: u32,
    lights: array<Light, 8>,
}

struct Light {
    // In view space: towards the light, or where it is.
    vector: vec3f,
    // In LIGHT_KINDS, for the CPU.
    kind: u32,
    color: vec3f,
}

// The constants below, or-ed. All views of a mesh have the same, so shaders are made for them.
override FLAGS: u32 = 0u;

const PARALLEL = 1u;
const OWN_MATERIAL = 2u;
const SMOOTH = 4u;
const REVERSE_LIT = 8u;
const SHOW_NORMALS = 16u;
const GLOSSY = 32u;
const SKY = 64u;

const LIGHT_AT_EYE = 0u;
const LIGHT_DIRECTIONAL = 1u;
const LIGHT_POINT = 2u;

@group(0) @binding(0) var<uniform> view: ViewUniform;

fn has(flag: u32) -> bool {
    return (FLAGS & flag) != 0u;
}
