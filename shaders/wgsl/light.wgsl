// Lighting of a surface point; the formula stands in tap-render's `lighting/mod.rs`. Include after `view.wgsl`. The CPU
// backend's version is `cpu/light.rs`.

// Are the three channels of every color equal?
override IS_GRAY: bool = false;
override NUM_LIGHTS: u32 = 0u;
// Two bits per light.
override LIGHT_KINDS: u32 = 0u;

// Covered pixels stay below the white of the background.
const BRIGHTEST_COVERED = 254.0;

struct SurfacePoint {
    // In view space.
    position: vec3f,
    // In view space, on the side that is seen.
    normal: vec3f,
    albedo: vec3f,
    // Of the ray that hits it, in view space.
    direction: vec3f,
}

// Repeats the red channel if the image is gray, so that the compiler can drop the other two.
fn gray_or_rgb(color: vec3f) -> vec3f {
    return select(color, vec3f(color.x), IS_GRAY);
}

fn shade(point: SurfacePoint) -> vec3f {
    if has(SHOW_NORMALS) {
        return point.normal * 0.5 + 0.5;
    }
    if has(SHOW_DEPTH) {
        return vec3f(0.5 + 0.5 * (point.position.z - view.view_from_object[3].z));
    }
    let to_eye = -normalize(point.direction);
    var diffuse = vec3f(0.0);
    var specular = vec3f(0.0);
    for (var i = 0u; i < NUM_LIGHTS; i++) {
        let light = view.lights[i];
        let kind = (LIGHT_KINDS >> (2u * i)) & 3u;
        let color = gray_or_rgb(light.color);
        var to_light = to_eye;
        if kind == LIGHT_DIRECTIONAL {
            to_light = light.vector;
        } else if kind == LIGHT_POINT {
            to_light = normalize(light.vector - point.position);
        }
        let n_dot_l = dot(point.normal, to_light);
        let cosine = select(max(n_dot_l, 0.0), abs(n_dot_l), has(TWO_SIDED));
        diffuse += color * cosine;
        if has(SPECULAR) && cosine > 0.0 {
            let half_vector = normalize(to_light + to_eye);
            specular += color * pow(max(dot(point.normal, half_vector), 0.0), view.shininess);
        }
    }
    var ambient = gray_or_rgb(view.ambient);
    if has(HEMISPHERE) {
        ambient += mix(gray_or_rgb(view.ground), gray_or_rgb(view.sky), 0.5 + 0.5 * dot(point.normal, view.view_from_object[1].xyz));
    }
    let diffuse_color = point.albedo * (ambient + view.diffuse * diffuse);
    if has(SPECULAR) {
        return diffuse_color + view.specular * specular;
    }
    return diffuse_color;
}

// Rounds to 8 bits. The result stays a float, which is faster than an integer.
fn quantize(color: vec3f) -> vec3f {
    return floor(clamp(color, vec3f(0.0), vec3f(1.0)) * 255.0 + 0.5);
}

fn shade_to_bytes(point: SurfacePoint) -> vec3f {
    return min(quantize(shade(point)), vec3f(BRIGHTEST_COVERED));
}

// Value of the color attachment for a covered pixel: its color (one channel if gray) and coverage 1.
fn pack_color(bytes: vec3f) -> vec4f {
    let color = bytes / 255.0;
    return select(vec4f(color, 1.0), vec4f(color.x, 1.0, 0.0, 0.0), IS_GRAY);
}
