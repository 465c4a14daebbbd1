// Geometry pass: writes which triangle each sample sees. Include after `view.wgsl` and `surface.wgsl`.

struct VertexOutput {
    @builtin(position) position: vec4f,
    // The provoking (first) vertex carries the triangle's index.
    @location(0) @interpolate(flat, first) triangle: u32,
}

@vertex
fn vs_main(@location(0) position: vec3f, @location(1) triangle: u32) -> VertexOutput {
    return VertexOutput(view.clip_from_object * vec4f(position, 1.0), triangle);
}

// The triangle's index plus 1, in two halves; 0 means no triangle.
fn pack_triangle_id(triangle: u32) -> vec2u {
    let number = triangle + 1u;
    return vec2u(number & 0xffffu, number >> 16u);
}

@fragment
fn fs_visibility(in: VertexOutput) -> @location(0) vec2u {
    return pack_triangle_id(in.triangle);
}

// Alpha test, evaluated once per pixel at its center.
@fragment
fn fs_visibility_alpha_test(in: VertexOutput) -> @location(0) vec2u {
    if fails_alpha_test(in.triangle, in.position.xy - vec2f(view.origin_px)) {
        discard;
    }
    return pack_triangle_id(in.triangle);
}
