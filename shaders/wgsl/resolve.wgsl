// Shades what the samples of a pixel see. `view.wgsl`, `scene.wgsl`, `light.wgsl` and one of the two `samples_*.wgsl` go
// before.

// Is color asked for, and not only what is covered?
override NEEDS_COLOR: bool = true;
// Is anything asked for of the surface that stands for a pixel?
override NEEDS_SURFACE: bool = true;

// Covers a view.
@vertex
fn cover(@builtin(vertex_index) index: u32) -> @builtin(position) vec4f {
    return vec4f(select(-1.0, 3.0, index == 1u), select(-1.0, 3.0, index == 2u), 0.0, 1.0);
}

struct Seen {
    point: Point,
    albedo: vec3f,
    labels: u32,
    // Does the pixel's centre meet the triangle?
    is_met: bool,
}

fn look(index: u32, pixel: vec2f) -> Seen {
    let triangle = triangles[index];
    let plane = plane_of(triangle);
    let direction = ray_direction(pixel);
    let bc = weights(plane, pixel);
    let weight = on_triangle(bc);
    let face = rotate(triangle.normal);
    var normal = face;
    if has(SMOOTH) {
        let bent = unfold(corners[3u * index].normal) * weight.x + unfold(corners[3u * index + 1u].normal) * weight.y
            + unfold(corners[3u * index + 2u].normal) * weight.z;
        if dot(bent, bent) > 0.0 {
            normal = rotate(normalize(bent));
        }
    }
    normal = towards_viewer(normal, face, direction);
    var albedo = vec3f(255.0);
    if has(OWN_MATERIAL) {
        albedo = bytes_of(own_color(index, plane, pixel).rgb);
    }
    let position = plane.a + plane.ab * weight.y + plane.ac * weight.z;
    return Seen(Point(position, normal, albedo / 255.0, direction), albedo, triangle.labels, meets(bc));
}

fn unpacked(color: u32) -> vec3f {
    return vec3f(vec3u(color, color >> 8u, color >> 16u) & vec3u(0xffu));
}

struct Resolved {
    @location(0) color: vec4f,
    @location(1) depth: f32,
    @location(2) normal: u32,
    @location(3) albedo: vec4f,
    @location(4) labels: u32,
}

@fragment
fn resolve(@builtin(position) position: vec4f) -> Resolved {
    let texel = vec2u(position.xy);
    let pixel = position.xy - vec2f(view.origin_px);
    // Of the triangles that the samples see, plus 1; 0 is nothing.
    var names: array<u32, NUM_SAMPLES>;
    var name = 0u;
    for (var sample = 0u; sample < NUM_SAMPLES; sample++) {
        names[sample] = name_at(texel, sample);
        name = select(name, names[sample], name == 0u);
    }
    if name == 0u {
        discard;
    }
    var sum = vec3f(0.0);
    var num_covered = 0u;
    // The triangle that stands for the pixel: one that its centre meets, or else any; of several the nearest.
    var chosen = Seen();
    var chosen_depth = 2.0;
    // A turn for each triangle, of which there is one for most pixels.
    loop {
        let seen = look(name - 1u, pixel);
        var depth = 2.0;
        var count = 0u;
        var next = 0u;
        for (var sample = 0u; sample < NUM_SAMPLES; sample++) {
            if names[sample] == name {
                names[sample] = 0u;
                count++;
                if NEEDS_SURFACE && NUM_SAMPLES > 1u {
                    depth = min(depth, depth_at(texel, sample));
                }
            }
            next = select(next, names[sample], next == 0u);
        }
        if NEEDS_COLOR {
            sum += f32(count) * shown(seen.point);
        }
        num_covered += count;
        let is_first = num_covered == count;
        if NEEDS_SURFACE {
            let is_nearer = seen.is_met == chosen.is_met && depth < chosen_depth;
            if is_first || (seen.is_met && !chosen.is_met) || is_nearer {
                chosen = seen;
                chosen_depth = depth;
            }
        }
        name = next;
        if name == 0u {
            break;
        }
    }
    // Rounded to the nearest; and a pixel that is covered in any sample is not white.
    let all = sum + f32(NUM_SAMPLES - num_covered) * unpacked(view.background);
    let mean = floor(all / f32(NUM_SAMPLES) + 0.5);
    return Resolved(
        kept(min(mean, vec3f(BRIGHTEST_COVERED))),
        -chosen.point.position.z,
        fold(chosen.point.normal),
        vec4f(chosen.albedo / 255.0, 1.0),
        chosen.labels,
    );
}
