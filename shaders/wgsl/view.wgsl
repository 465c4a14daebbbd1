// Uniforms of one view. `ViewUniform` in lib.rs has the same layout, which a test checks.
struct ViewUniform {
    clip_from_object: mat4x4f,
    view_from_object: mat4x4f,
    // `pixel * ray_scale + ray_offset` is, in view space, the ray's direction at z = -1, or its origin if orthographic.
    ray_scale: vec2f,
    ray_offset: vec2f,
    // Top left pixel of the view in the render target.
    origin_px: vec2u,
    size_px: u32,
    // For the CPU backend; shaders use the override FLAGS.
    flags: u32,
    ambient: vec3f,
    diffuse: f32,
    sky: vec3f,
    specular: f32,
    ground: vec3f,
    shininess: f32,
    // RGB8, red in the lowest byte.
    background: u32,
    // For the CPU backend; shaders use the override NUM_LIGHTS.
    num_lights: u32,
    lights: array<Light, 8>,
}

struct Light {
    // In view space: the direction towards the light, or its position.
    vector: vec3f,
    // For the CPU backend; shaders use the override LIGHT_KINDS.
    kind: u32,
    color: vec3f,
}

// Bitwise or of the constants below.
override FLAGS: u32 = 0u;

const ORTHOGRAPHIC = 1u;
const OWN_MATERIAL = 2u;
const SMOOTH_NORMALS = 4u;
const TWO_SIDED = 8u;
const SHOW_NORMALS = 16u;
const SPECULAR = 32u;
const HEMISPHERE = 64u;
const SHOW_DEPTH = 128u;

const LIGHT_HEADLIGHT = 0u;
const LIGHT_DIRECTIONAL = 1u;
const LIGHT_POINT = 2u;

@group(0) @binding(0) var<uniform> view: ViewUniform;

fn has(flag: u32) -> bool {
    return (FLAGS & flag) != 0u;
}
