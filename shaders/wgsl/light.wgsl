// The light of a point. `view.wgsl` goes before. Its twin is `shade/` in tap-render.

// Are all parts of a color the same?
override IS_GRAY: bool = false;
override NUM_LIGHTS: u32 = 0u;
// Two bits a light.
override LIGHT_KINDS: u32 = 0u;

// What a covered pixel shows stays below the background's white.
const BRIGHTEST_COVERED = 254.0;

struct Point {
    // In view space.
    position: vec3f,
    // In view space, of the side that is seen.
    normal: vec3f,
    albedo: vec3f,
    // In view space, of the ray that meets it.
    direction: vec3f,
}

// A color whose parts a compiler sees to be the same where they are.
fn tone(color: vec3f) -> vec3f {
    return select(color, vec3f(color.x), IS_GRAY);
}

fn lit(point: Point) -> vec3f {
    if has(SHOW_NORMALS) {
        return point.normal * 0.5 + 0.5;
    }
    let to_eye = -normalize(point.direction);
    var diffuse = vec3f(0.0);
    var specular = vec3f(0.0);
    for (var i = 0u; i < NUM_LIGHTS; i++) {
        let light = view.lights[i];
        let kind = (LIGHT_KINDS >> (2u * i)) & 3u;
        let color = tone(light.color);
        var to_light = to_eye;
        if kind == LIGHT_DIRECTIONAL {
            to_light = light.vector;
        } else if kind == LIGHT_POINT {
            to_light = normalize(light.vector - point.position);
        }
        let along = dot(point.normal, to_light);
        let cosine = select(max(along, 0.0), abs(along), has(REVERSE_LIT));
        diffuse += color * cosine;
        if has(GLOSSY) && cosine > 0.0 {
            let half_way = normalize(to_light + to_eye);
            specular += color * pow(max(dot(point.normal, half_way), 0.0), view.shininess);
        }
    }
    var around = tone(view.ambient);
    if has(SKY) {
        around += mix(tone(view.ground), tone(view.sky), 0.5 + 0.5 * dot(point.normal, view.view_from_object[1].xyz));
    }
    let scattered = point.albedo * (around + view.diffuse * diffuse);
    if has(GLOSSY) {
        return scattered + view.specular * specular;
    }
    return scattered;
}

// Rounded to the nearest of 8 bits: whole numbers, which are quicker to reckon with as floats.
fn bytes_of(color: vec3f) -> vec3f {
    return floor(clamp(color, vec3f(0.0), vec3f(1.0)) * 255.0 + 0.5);
}

fn shown(point: Point) -> vec3f {
    return min(bytes_of(lit(point)), vec3f(BRIGHTEST_COVERED));
}

// What the target keeps of a covered pixel: its color, or one part of it, and that it is covered.
fn kept(bytes: vec3f) -> vec4f {
    let color = bytes / 255.0;
    return select(vec4f(color, 1.0), vec4f(color.x, 1.0, 0.0, 0.0), IS_GRAY);
}
