// What a draw of one view needs. Its twin is `ViewUniform` in lib.rs; a test holds the two together.
struct ViewUniform {
    clip_from_object: mat4x4f,
    view_from_object: mat4x4f,
    // The ray through a point of the target, in view space: (pixel * scale + offset, -1).
    ray_scale: vec2f,
    ray_offset: vec2f,
    // distance = (c.x * depth + c.y) / (c.z * depth + c.w)
    distance_from_depth: vec4f,
    ambient: f32,
    diffuse: f32,
    // Top left pixel of the view in the target.
    origin_px: vec2u,
}
