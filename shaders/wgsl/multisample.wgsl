// The target's texels where a pixel has four samples. `samples_one.wgsl` is its other.

@group(2) @binding(0) var names_seen: texture_multisampled_2d<u32>;
@group(2) @binding(1) var depths: texture_depth_multisampled_2d;

const NUM_SAMPLES = 4u;

fn name_at(texel: vec2u, sample: u32) -> u32 {
    let name = textureLoad(names_seen, texel, sample).xy;
    return name.x | (name.y << 16u);
}

fn depth_at(texel: vec2u, sample: u32) -> f32 {
    return textureLoad(depths, texel, sample);
}
