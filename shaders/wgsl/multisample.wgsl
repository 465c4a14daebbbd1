// Visibility buffer of four samples per pixel; `single_sample.wgsl` is the alternative.

@group(2) @binding(0) var triangle_ids: texture_multisampled_2d<u32>;
@group(2) @binding(1) var depths: texture_depth_multisampled_2d;

const NUM_SAMPLES = 4u;
// Vulkan's standard positions, from the pixel's top left.
const SAMPLE_POSITIONS = array<vec2f, 4>(vec2f(0.375, 0.125), vec2f(0.875, 0.375), vec2f(0.125, 0.625), vec2f(0.625, 0.875));

fn triangle_id_at(texel: vec2u, sample: u32) -> u32 {
    let id = textureLoad(triangle_ids, texel, sample).xy;
    return id.x | (id.y << 16u);
}

fn depth_at(texel: vec2u, sample: u32) -> f32 {
    return textureLoad(depths, texel, sample);
}
