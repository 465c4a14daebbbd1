// Colors the faces of a mesh whose look depends on nothing but where they face: white, flat, no light at a place.
// `view.wgsl`, `scene.wgsl` and `light.wgsl` go before.

struct Face {
    @builtin(position) position: vec4f,
    // In view space. A triangle's normal stands at its first corner.
    @location(0) @interpolate(flat, first) normal: vec3f,
}

@vertex
fn place_face(@location(0) position: vec3f, @location(1) normal: vec3f) -> Face {
    return Face(view.clip_from_object * vec4f(position, 1.0), rotate(normal));
}

@fragment
fn paint(at: Face) -> @location(0) vec4f {
    let direction = ray_direction(at.position.xy - vec2f(view.origin_px));
    let normal = towards_viewer(at.normal, at.normal, direction);
    return kept(shown(Point(vec3f(0.0), normal, vec3f(1.0), direction)));
}
