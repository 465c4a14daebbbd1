// Forward shading of white, flat-shaded meshes. Include after `view.wgsl`, `surface.wgsl` and `light.wgsl`.

struct ForwardVertex {
    @builtin(position) position: vec4f,
    // Of the triangle, in view space; the provoking (first) vertex carries it.
    @location(0) @interpolate(flat, first) normal: vec3f,
    // Interpolated: on a software driver that is faster than reconstructing it from the pixel.
    @location(1) view_position: vec3f,
}

@vertex
fn vs_forward(@location(0) position: vec3f, @location(1) normal: vec3f) -> ForwardVertex {
    let view_position = view.view_from_object * vec4f(position, 1.0);
    return ForwardVertex(view.clip_from_object * vec4f(position, 1.0), rotate_to_view(normal), view_position.xyz);
}

@fragment
fn fs_forward(in: ForwardVertex) -> @location(0) vec4f {
    let direction = select(in.view_position, vec3f(0.0, 0.0, -1.0), has(ORTHOGRAPHIC));
    let normal = face_forward(in.normal, in.normal, direction);
    return pack_color(shade_to_bytes(SurfacePoint(in.view_position, normal, vec3f(1.0), direction)));
}

// A face lit by a single gray headlight.
struct HeadlightVertex {
    @builtin(position) position: vec4f,
    // Light intensity times the eye's distance from the face's plane, or, if orthographic, times the cosine between
    // rays and normal.
    @location(0) @interpolate(flat, first) light: f32,
    @location(1) view_position: vec3f,
}

@vertex
fn vs_headlight(@location(0) position: vec3f, @location(1) normal: vec3f) -> HeadlightVertex {
    let view_position = (view.view_from_object * vec4f(position, 1.0)).xyz;
    let to_eye = select(view_position, vec3f(0.0, 0.0, 1.0), has(ORTHOGRAPHIC));
    let light = view.diffuse * view.lights[0].color.x * abs(dot(rotate_to_view(normal), to_eye));
    return HeadlightVertex(view.clip_from_object * vec4f(position, 1.0), light, view_position);
}

@fragment
fn fs_headlight(in: HeadlightVertex) -> @location(0) vec4f {
    let inv_length = select(inverseSqrt(dot(in.view_position, in.view_position)), 1.0, has(ORTHOGRAPHIC));
    // `shade_to_bytes` and `pack_color` inlined for one channel that is never negative; calling them costs a software
    // driver 4 %.
    let byte = floor((view.ambient.x + in.light * inv_length) * 255.0 + 0.5);
    return vec4f(min(byte, BRIGHTEST_COVERED) * (1.0 / 255.0));
}
