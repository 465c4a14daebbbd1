// Shades what each sample of a view sees and makes tight rows of words of it. `view.wgsl`, `scene.wgsl`, `light.wgsl`
// and one of the two `samples_*.wgsl` go before.
//
// A view's output is one word a pixel and channel, row by row without padding, one channel after the other.

@group(2) @binding(0) var<uniform> output: ResolveUniform;
@group(2) @binding(1) var<storage, read_write> words: array<u32>;

struct ResolveUniform {
    // Where the view's words of each channel begin, or NO_CHANNEL.
    first_color: u32,
    first_depth: u32,
    first_normal: u32,
    first_albedo: u32,
    first_labels: u32,
}

const NO_CHANNEL = 0xffffffffu;
// In the uppermost byte of a color: the pixel is covered.
const COVERED = 0xff000000u;
const INFINITY_BITS = 0x7f800000u;
const NO_LABELS = 0xffffffffu;

fn packed(color: vec3u) -> u32 {
    return color.x | (color.y << 8u) | (color.z << 16u);
}

fn unpacked(color: u32) -> vec3u {
    return vec3u(color, color >> 8u, color >> 16u) & vec3u(0xffu);
}

struct Seen {
    point: Point,
    albedo: vec3u,
    labels: u32,
}

fn look(index: u32, pixel: vec2f) -> Seen {
    let triangle = triangles[index];
    let plane = plane_of(triangle);
    let direction = ray_direction(pixel);
    let weight = on_triangle(weights(plane, pixel));
    let face = rotate(triangle.normal);
    var normal = face;
    if has(SMOOTH) {
        let bent = unfold(corners[3u * index].normal) * weight.x + unfold(corners[3u * index + 1u].normal) * weight.y
            + unfold(corners[3u * index + 2u].normal) * weight.z;
        if dot(bent, bent) > 0.0 {
            normal = rotate(normalize(bent));
        }
    }
    normal = select(normal, -normal, dot(face, direction) > 0.0);
    var albedo = vec3u(255u);
    if has(OWN_MATERIAL) {
        albedo = bytes_of(own_color(index, plane, pixel).rgb);
    }
    let position = plane.a + plane.ab * weight.y + plane.ac * weight.z;
    return Seen(Point(position, normal, vec3f(albedo) / 255.0, direction), albedo, triangle.labels);
}

// The triangle that stands for a pixel: of those that its samples see, one that its centre meets, or else any; of
// several the nearest.
struct Chosen {
    name: u32,
    depth: f32,
    is_met: bool,
}

fn better(chosen: Chosen, name: u32, depth: f32, asks: bool, pixel: vec2f) -> Chosen {
    if name == chosen.name {
        return Chosen(name, min(depth, chosen.depth), chosen.is_met);
    }
    let is_met = asks && meets(name - 1u, pixel);
    let is_better = (is_met && !chosen.is_met) || (is_met == chosen.is_met && depth < chosen.depth);
    if is_better {
        return Chosen(name, depth, is_met);
    }
    return chosen;
}

@compute @workgroup_size(64)
fn resolve(@builtin(global_invocation_id) invocation: vec3u) {
    let index = invocation.x;
    if index >= view.size_px * view.size_px {
        return;
    }
    let at = vec2u(index % view.size_px, index / view.size_px);
    let texel = view.origin_px + at;
    let pixel = vec2f(at) + 0.5;
    let needs_surface = output.first_depth != NO_CHANNEL || output.first_normal != NO_CHANNEL
        || output.first_albedo != NO_CHANNEL || output.first_labels != NO_CHANNEL;
    var names: array<u32, NUM_SAMPLES>;
    var colors: array<vec3u, NUM_SAMPLES>;
    var sum = vec3u(0u);
    var chosen = Chosen(0u, 2.0, false);
    for (var sample = 0u; sample < NUM_SAMPLES; sample++) {
        let name = name_at(texel, sample);
        names[sample] = name;
        colors[sample] = unpacked(view.background);
        if name != 0u {
            var known = sample;
            for (var other = 0u; other < sample; other++) {
                if names[other] == name {
                    known = other;
                }
            }
            if known != sample {
                colors[sample] = colors[known];
            } else if output.first_color != NO_CHANNEL {
                colors[sample] = shown(look(name - 1u, pixel).point);
            }
            chosen = better(chosen, name, depth_at(texel, sample), needs_surface, pixel);
        }
        sum += colors[sample];
    }
    let is_covered = chosen.name != 0u;
    if output.first_color != NO_CHANNEL {
        // Rounded to the nearest; and a pixel that is covered in any sample is not white.
        let mean = (2u * sum + NUM_SAMPLES) / (2u * NUM_SAMPLES);
        let color = select(mean, min(mean, vec3u(BRIGHTEST_COVERED)), is_covered);
        words[output.first_color + index] = packed(color) | select(0u, COVERED, is_covered);
    }
    if !needs_surface {
        return;
    }
    var seen = Seen(Point(vec3f(0.0), vec3f(0.0, 0.0, 1.0), vec3f(0.0), vec3f(0.0)), vec3u(0u), NO_LABELS);
    if is_covered {
        seen = look(chosen.name - 1u, pixel);
    }
    if output.first_depth != NO_CHANNEL {
        words[output.first_depth + index] = select(INFINITY_BITS, bitcast<u32>(-seen.point.position.z), is_covered);
    }
    if output.first_normal != NO_CHANNEL {
        words[output.first_normal + index] = fold(seen.point.normal);
    }
    if output.first_albedo != NO_CHANNEL {
        words[output.first_albedo + index] = packed(seen.albedo);
    }
    if output.first_labels != NO_CHANNEL {
        words[output.first_labels + index] = seen.labels;
    }
}
