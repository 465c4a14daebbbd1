// Resolve pass: shades the visible triangles of each pixel and averages its samples. Include after `view.wgsl`,
// `surface.wgsl`, `light.wgsl` and either `single_sample.wgsl` or `multisample.wgsl`.

// Is the color channel requested, not only coverage?
override NEEDS_COLOR: bool = true;
// Is a channel of the G-buffer (depth, normal, albedo, labels) requested?
override NEEDS_SURFACE: bool = true;

// Does any triangle have a list of earlier ones?
override HAS_EARLIER: bool = true;

// Each list is its length and as many triangles: those of the same plane that come first in the file.
@group(1) @binding(5) var<storage, read> earlier_triangles: array<u32>;

// A single triangle that covers the viewport.
@vertex
fn vs_fullscreen(@builtin(vertex_index) index: u32) -> @builtin(position) vec4f {
    return vec4f(select(-1.0, 3.0, index == 1u), select(-1.0, 3.0, index == 2u), 0.0, 1.0);
}

struct SurfaceHit {
    point: SurfacePoint,
    albedo: vec3f,
    labels: u32,
    // Does the ray through the pixel's center hit the triangle?
    is_hit: bool,
}

fn surface_hit(index: u32, pixel: vec2f) -> SurfaceHit {
    let triangle = triangles[index];
    let view_tri = view_triangle(triangle);
    let direction = ray_direction(pixel);
    let bc = barycentric(view_tri, pixel);
    let weight = clamp_barycentric(bc);
    let face = rotate_to_view(triangle.normal);
    var normal = face;
    if has(SMOOTH_NORMALS) {
        let interpolated = decode_octahedral(corners[3u * index].normal) * weight.x + decode_octahedral(corners[3u * index + 1u].normal) * weight.y
            + decode_octahedral(corners[3u * index + 2u].normal) * weight.z;
        if dot(interpolated, interpolated) > 0.0 {
            normal = rotate_to_view(normalize(interpolated));
        }
    }
    normal = face_forward(normal, face, direction);
    var albedo = vec3f(255.0);
    if has(OWN_MATERIAL) {
        albedo = quantize(material_color(index, view_tri, pixel).rgb);
    }
    let position = view_tri.a + view_tri.ab * weight.y + view_tri.ac * weight.z;
    return SurfaceHit(SurfacePoint(position, normal, albedo / 255.0, direction), albedo, triangle.labels, is_hit(bc));
}

fn unpack_rgb(color: u32) -> vec3f {
    return vec3f(vec3u(color, color >> 8u, color >> 16u) & vec3u(0xffu));
}

// How far beyond its edges an earlier triangle reaches, in barycentric coordinates: two that share an edge must not leave
// a sample on it to the later one.
const EDGE_TOLERANCE = 1e-5;

// The first triangle of the plane of a sample's triangle that covers the sample. Where faces of one plane overlap, the
// depth test has no say.
fn first_coplanar(id: u32, pixel: vec2f, sample: u32) -> u32 {
    let start = triangles[id - 1u].earlier;
    if start == 0u {
        return id;
    }
    var positions = SAMPLE_POSITIONS;
    let position = pixel - 0.5 + positions[sample];
    for (var i = start + 1u; i <= start + earlier_triangles[start]; i++) {
        let earlier = earlier_triangles[i];
        let bc = barycentric(view_triangle(triangles[earlier]), position);
        let is_covered = min(min(bc.x, bc.y), 1.0 - bc.x - bc.y) >= -EDGE_TOLERANCE;
        if is_covered && !fails_alpha_test(earlier, pixel) {
            return earlier + 1u;
        }
    }
    return id;
}

struct ResolveOutput {
    @location(0) color: vec4f,
    @location(1) depth: f32,
    @location(2) normal: u32,
    @location(3) albedo: vec4f,
    @location(4) labels: u32,
}

@fragment
fn fs_resolve(@builtin(position) position: vec4f) -> ResolveOutput {
    let texel = vec2u(position.xy);
    let pixel = position.xy - vec2f(view.origin_px);
    // Triangle index plus 1 per sample; 0 means no triangle.
    var ids: array<u32, NUM_SAMPLES>;
    var id = 0u;
    for (var sample = 0u; sample < NUM_SAMPLES; sample++) {
        ids[sample] = triangle_id_at(texel, sample);
        if HAS_EARLIER && ids[sample] != 0u {
            ids[sample] = first_coplanar(ids[sample], pixel, sample);
        }
        id = select(id, ids[sample], id == 0u);
    }
    if id == 0u {
        discard;
    }
    var sum = vec3f(0.0);
    var num_covered = 0u;
    // The triangle that the G-buffer describes: preferably one that the pixel's center hits, then the nearest.
    var representative = SurfaceHit();
    var representative_depth = 2.0;
    // Shades each distinct triangle once; most pixels have a single one.
    loop {
        let hit = surface_hit(id - 1u, pixel);
        var depth = 2.0;
        var count = 0u;
        var next = 0u;
        for (var sample = 0u; sample < NUM_SAMPLES; sample++) {
            if ids[sample] == id {
                ids[sample] = 0u;
                count++;
                if NEEDS_SURFACE && NUM_SAMPLES > 1u {
                    depth = min(depth, depth_at(texel, sample));
                }
            }
            next = select(next, ids[sample], next == 0u);
        }
        if NEEDS_COLOR {
            sum += f32(count) * shade_to_bytes(hit.point);
        }
        num_covered += count;
        let is_first = num_covered == count;
        if NEEDS_SURFACE {
            let is_nearer = hit.is_hit == representative.is_hit && depth < representative_depth;
            if is_first || (hit.is_hit && !representative.is_hit) || is_nearer {
                representative = hit;
                representative_depth = depth;
            }
        }
        id = next;
        if id == 0u {
            break;
        }
    }
    // Rounded to nearest; a partly covered pixel is never white.
    let total = sum + f32(NUM_SAMPLES - num_covered) * unpack_rgb(view.background);
    let mean = floor(total / f32(NUM_SAMPLES) + 0.5);
    return ResolveOutput(
        pack_color(min(mean, vec3f(BRIGHTEST_COVERED))),
        -representative.point.position.z,
        encode_octahedral(representative.point.normal),
        vec4f(representative.albedo / 255.0, 1.0),
        representative.labels,
    );
}
