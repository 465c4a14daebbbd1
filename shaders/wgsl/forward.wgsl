// Colors the faces of a mesh whose look depends on nothing but where they are and where they face: white and flat.
// `view.wgsl`, `scene.wgsl` and `light.wgsl` go before.

struct Face {
    @builtin(position) position: vec4f,
    // In view space. A triangle's normal stands at its first corner.
    @location(0) @interpolate(flat, first) normal: vec3f,
    // In view space. A software driver interpolates it faster than it looks up what tells it from the pixel.
    @location(1) place: vec3f,
}

@vertex
fn place_face(@location(0) position: vec3f, @location(1) normal: vec3f) -> Face {
    let place = view.view_from_object * vec4f(position, 1.0);
    return Face(view.clip_from_object * vec4f(position, 1.0), rotate(normal), place.xyz);
}

@fragment
fn paint(at: Face) -> @location(0) vec4f {
    let direction = select(at.place, vec3f(0.0, 0.0, -1.0), has(PARALLEL));
    let normal = towards_viewer(at.normal, at.normal, direction);
    return kept(shown(Point(at.place, normal, vec3f(1.0), direction)));
}

// A face in the headlight alone, which is gray.
struct HeadlitFace {
    @builtin(position) position: vec4f,
    // How far the face's plane is from the eye, or the cosine between parallel rays and its normal; times the light.
    @location(0) @interpolate(flat, first) light: f32,
    @location(1) place: vec3f,
}

@vertex
fn place_headlit_face(@location(0) position: vec3f, @location(1) normal: vec3f) -> HeadlitFace {
    let place = (view.view_from_object * vec4f(position, 1.0)).xyz;
    let towards_eye = select(place, vec3f(0.0, 0.0, 1.0), has(PARALLEL));
    let light = view.diffuse * view.lights[0].color.x * abs(dot(rotate(normal), towards_eye));
    return HeadlitFace(view.clip_from_object * vec4f(position, 1.0), light, place);
}

@fragment
fn paint_headlit(at: HeadlitFace) -> @location(0) vec4f {
    let per_length = select(inverseSqrt(dot(at.place, at.place)), 1.0, has(PARALLEL));
    // What `shown` and `kept` do, of one part that is never negative: through them a software driver takes 4 % longer.
    let byte = floor((view.ambient.x + at.light * per_length) * 255.0 + 0.5);
    return vec4f(min(byte, BRIGHTEST_COVERED) * (1.0 / 255.0));
}
