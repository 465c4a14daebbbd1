// Which triangle each sample of a view sees. `view.wgsl` and `scene.wgsl` go before.

struct Place {
    @builtin(position) position: vec4f,
    // A triangle's number stands at its first corner.
    @location(0) @interpolate(flat, first) triangle: u32,
}

@vertex
fn place(@location(0) position: vec3f, @location(1) triangle: u32) -> Place {
    return Place(view.clip_from_object * vec4f(position, 1.0), triangle);
}

// 0 is nothing.
fn name(triangle: u32) -> vec2u {
    let number = triangle + 1u;
    return vec2u(number & 0xffffu, number >> 16u);
}

@fragment
fn see(at: Place) -> @location(0) vec2u {
    return name(at.triangle);
}

// For meshes with holes in their textures: a pixel looks through where its centre meets one.
@fragment
fn see_through(at: Place) -> @location(0) vec2u {
    let cutout = materials[triangles[at.triangle].labels >> 16u].cutout;
    if cutout > 0.0 {
        let pixel = at.position.xy - vec2f(view.origin_px);
        if own_color(at.triangle, plane_of(triangles[at.triangle]), pixel).a < cutout {
            discard;
        }
    }
    return name(at.triangle);
}
