// The target's texels where a pixel has one sample. `samples_many.wgsl` is its other.

@group(1) @binding(0) var shades: texture_2d<f32>;
@group(1) @binding(1) var depths: texture_depth_2d;
@group(1) @binding(2) var normals: texture_2d<u32>;

const NUM_SAMPLES = 1u;

fn shade_at(pixel: vec2u, sample: u32) -> f32 {
    return textureLoad(shades, pixel, 0).x;
}

fn depth_at(pixel: vec2u, sample: u32) -> f32 {
    return textureLoad(depths, pixel, 0);
}

fn normal_at(pixel: vec2u, sample: u32) -> vec2u {
    return textureLoad(normals, pixel, 0).xy;
}
