// Makes tight rows of bytes of one view's samples. `view.wgsl` and one of the two `samples_*.wgsl` go before.
//
// A view's output is: shades, four pixels a word; then, if asked for, distances and normals, one pixel a word. Pixels
// run row by row without padding, so the host copies and never rearranges.

@group(0) @binding(0) var<uniform> view: ViewUniform;
@group(0) @binding(1) var<uniform> output: ResolveUniform;
@group(0) @binding(2) var<storage, read_write> words: array<u32>;

struct ResolveUniform {
    size_px: u32,
    // Where the view's words of each channel begin.
    first_shade: u32,
    first_distance: u32,
    first_normal: u32,
}

const BACKGROUND = 255u;
const BRIGHTEST_COVERED = 254u;
const INFINITY_BITS = 0x7f800000u;

fn is_covered(shade: f32) -> bool {
    return shade < 1.0;
}

fn pixel_of(index: u32) -> vec2u {
    return view.origin_px + vec2u(index % output.size_px, index / output.size_px);
}

fn num_pixels() -> u32 {
    return output.size_px * output.size_px;
}

fn shade_byte(pixel: vec2u) -> u32 {
    var sum = 0u;
    for (var sample = 0u; sample < NUM_SAMPLES; sample++) {
        sum += u32(round(shade_at(pixel, sample) * 255.0));
    }
    // Rounded to the nearest; and a pixel that is covered in any sample is not white.
    let mean = (2u * sum + NUM_SAMPLES) / (2u * NUM_SAMPLES);
    return select(min(mean, BRIGHTEST_COVERED), BACKGROUND, sum == BACKGROUND * NUM_SAMPLES);
}

@compute @workgroup_size(64)
fn resolve_shades(@builtin(global_invocation_id) invocation: vec3u) {
    let first = invocation.x * 4u;
    if first >= num_pixels() {
        return;
    }
    var word = 0u;
    for (var lane = 0u; lane < 4u; lane++) {
        // Beyond the last pixel the word is filled up with copies of it.
        let pixel = pixel_of(min(first + lane, num_pixels() - 1u));
        word |= shade_byte(pixel) << (8u * lane);
    }
    words[output.first_shade + invocation.x] = word;
}

struct Nearest {
    sample: u32,
    depth: f32,
    is_covered: bool,
}

fn nearest(pixel: vec2u) -> Nearest {
    var result = Nearest(0u, 2.0, false);
    for (var sample = 0u; sample < NUM_SAMPLES; sample++) {
        let depth = depth_at(pixel, sample);
        if is_covered(shade_at(pixel, sample)) && depth < result.depth {
            result = Nearest(sample, depth, true);
        }
    }
    return result;
}

@compute @workgroup_size(64)
fn resolve_distances(@builtin(global_invocation_id) invocation: vec3u) {
    if invocation.x >= num_pixels() {
        return;
    }
    let near = nearest(pixel_of(invocation.x));
    let c = view.distance_from_depth;
    let distance = (c.x * near.depth + c.y) / (c.z * near.depth + c.w);
    words[output.first_distance + invocation.x] = select(INFINITY_BITS, bitcast<u32>(distance), near.is_covered);
}

@compute @workgroup_size(64)
fn resolve_normals(@builtin(global_invocation_id) invocation: vec3u) {
    if invocation.x >= num_pixels() {
        return;
    }
    let pixel = pixel_of(invocation.x);
    let normal = normal_at(pixel, nearest(pixel).sample);
    words[output.first_normal + invocation.x] = normal.x | (normal.y << 16u);
}
