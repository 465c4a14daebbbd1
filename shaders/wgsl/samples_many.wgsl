// The target's texels where a pixel has four samples. `samples_one.wgsl` is its other.

@group(1) @binding(0) var shades: texture_multisampled_2d<f32>;
@group(1) @binding(1) var depths: texture_depth_multisampled_2d;
@group(1) @binding(2) var normals: texture_multisampled_2d<u32>;

const NUM_SAMPLES = 4u;

fn shade_at(pixel: vec2u, sample: u32) -> f32 {
    return textureLoad(shades, pixel, sample).x;
}

fn depth_at(pixel: vec2u, sample: u32) -> f32 {
    return textureLoad(depths, pixel, sample);
}

fn normal_at(pixel: vec2u, sample: u32) -> vec2u {
    return textureLoad(normals, pixel, sample).xy;
}
