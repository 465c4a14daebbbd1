// The light of a point. `view.wgsl` goes before. Its twin is `shade.rs` in tap-render.

// What a covered pixel shows stays below the background's white.
const BRIGHTEST_COVERED = 254u;

struct Point {
    // In view space.
    position: vec3f,
    // In view space, of the side that is seen.
    normal: vec3f,
    albedo: vec3f,
    // In view space, of the ray that meets it.
    direction: vec3f,
}

fn lit(point: Point) -> vec3f {
    if has(SHOW_NORMALS) {
        return point.normal * 0.5 + 0.5;
    }
    let to_eye = -normalize(point.direction);
    let up = view.view_from_object[1].xyz;
    var diffuse = vec3f(0.0);
    var specular = vec3f(0.0);
    for (var i = 0u; i < view.num_lights; i++) {
        let light = view.lights[i];
        var to_light = to_eye;
        if light.kind == LIGHT_DIRECTIONAL {
            to_light = light.vector;
        } else if light.kind == LIGHT_POINT {
            to_light = normalize(light.vector - point.position);
        }
        let along = dot(point.normal, to_light);
        let cosine = select(max(along, 0.0), abs(along), has(REVERSE_LIT));
        diffuse += light.color * cosine;
        if view.specular > 0.0 && cosine > 0.0 {
            let half_way = normalize(to_light + to_eye);
            specular += light.color * pow(max(dot(point.normal, half_way), 0.0), view.shininess);
        }
    }
    let around = view.ambient + mix(view.ground, view.sky, 0.5 + 0.5 * dot(point.normal, up));
    return point.albedo * (around + view.diffuse * diffuse) + view.specular * specular;
}

fn bytes_of(color: vec3f) -> vec3u {
    return vec3u(clamp(color, vec3f(0.0), vec3f(1.0)) * 255.0 + 0.5);
}

fn shown(point: Point) -> vec3u {
    return min(bytes_of(lit(point)), vec3u(BRIGHTEST_COVERED));
}
