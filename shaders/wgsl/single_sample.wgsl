// The target's texels where a pixel has one sample. `samples_many.wgsl` is its other.

@group(2) @binding(0) var names_seen: texture_2d<u32>;
@group(2) @binding(1) var depths: texture_depth_2d;

const NUM_SAMPLES = 1u;

fn name_at(texel: vec2u, sample: u32) -> u32 {
    let name = textureLoad(names_seen, texel, 0).xy;
    return name.x | (name.y << 16u);
}

fn depth_at(texel: vec2u, sample: u32) -> f32 {
    return textureLoad(depths, texel, 0);
}
