// Visibility buffer of one sample per pixel; `multisample.wgsl` is the alternative.

@group(2) @binding(0) var triangle_ids: texture_2d<u32>;
@group(2) @binding(1) var depths: texture_depth_2d;

const NUM_SAMPLES = 1u;
// From the pixel's top left.
const SAMPLE_POSITIONS = array<vec2f, 1>(vec2f(0.5));

fn triangle_id_at(texel: vec2u, sample: u32) -> u32 {
    let id = textureLoad(triangle_ids, texel, 0).xy;
    return id.x | (id.y << 16u);
}

fn depth_at(texel: vec2u, sample: u32) -> f32 {
    return textureLoad(depths, texel, 0);
}
