// Surface attributes where a pixel's ray hits a triangle. Include after `view.wgsl`. The CPU backend's version is
// `cpu/surface.rs` and `cpu/texture.rs` in tap-render.

@group(1) @binding(0) var<storage, read> points: array<f32>;
@group(1) @binding(1) var<storage, read> triangles: array<Triangle>;
// Three per triangle, or a single dummy.
@group(1) @binding(2) var<storage, read> corners: array<Corner>;
@group(1) @binding(3) var<storage, read> materials: array<Material>;
// The headers of all textures, then the texels of all mip levels.
@group(1) @binding(4) var<storage, read> textures: array<u32>;

struct Triangle {
    normal: vec3f,
    // Part in the lower half, material in the upper.
    labels: u32,
    a: u32,
    b: u32,
    c: u32,
    // Start of its list of earlier triangles; 0 if it has none.
    earlier: u32,
}

struct Corner {
    uv: vec2f,
    // Smooth normal, octahedral encoding.
    normal: u32,
    // RGBA8, red in the lowest byte.
    color: u32,
}

struct Material {
    // RGBA8, red in the lowest byte.
    base_color: u32,
    // Offset of its texture header, or NO_TEXTURE.
    texture: u32,
    // Fragments with less alpha are discarded; 0 or less turns the alpha test off.
    alpha_cutoff: f32,
    pad: u32,
}

const NO_TEXTURE = 0xffffffffu;
// Texture header: offset of the first texel, width, height, number of mip levels, wrap mode of u and of v. Wrap modes
// other than these two clamp to the edge.
const WRAP_REPEAT = 0u;
const WRAP_MIRROR = 1u;

fn vertex_in_view(index: u32) -> vec3f {
    let point = vec3f(points[3u * index], points[3u * index + 1u], points[3u * index + 2u]);
    return (view.view_from_object * vec4f(point, 1.0)).xyz;
}

fn rotate_to_view(vector: vec3f) -> vec3f {
    return mat3x3f(view.view_from_object[0].xyz, view.view_from_object[1].xyz, view.view_from_object[2].xyz) * vector;
}

// Direction of the ray through a pixel position, with z = -1.
fn ray_direction(pixel: vec2f) -> vec3f {
    return select(vec3f(pixel * view.ray_scale + view.ray_offset, -1.0), vec3f(0.0, 0.0, -1.0), has(ORTHOGRAPHIC));
}

// The normal on the side of the face that the ray comes from.
fn face_forward(normal: vec3f, face: vec3f, direction: vec3f) -> vec3f {
    return select(normal, -normal, dot(face, direction) > 0.0);
}

struct ViewTriangle {
    a: vec3f,
    ab: vec3f,
    ac: vec3f,
}

fn view_triangle(triangle: Triangle) -> ViewTriangle {
    let a = vertex_in_view(triangle.a);
    return ViewTriangle(a, vertex_in_view(triangle.b) - a, vertex_in_view(triangle.c) - a);
}

// Barycentric coordinates (b, c) of the ray's intersection with the triangle's plane, after Moller and Trumbore; not
// clamped to the triangle.
fn barycentric(view_tri: ViewTriangle, pixel: vec2f) -> vec2f {
    let direction = ray_direction(pixel);
    // The ray's origin moved to the depth of corner a and relative to it, to keep the numbers small.
    let position = select(direction.xy * -view_tri.a.z, pixel * view.ray_scale + view.ray_offset, has(ORTHOGRAPHIC));
    let start = vec3f(position - view_tri.a.xy, 0.0);
    let p_vector = cross(direction, view_tri.ac);
    let determinant = dot(view_tri.ab, p_vector);
    let both = vec2f(dot(start, p_vector), dot(direction, cross(start, view_tri.ab)));
    return select(both / determinant, vec2f(1.0 / 3.0), determinant == 0.0);
}

// Is the intersection within the triangle?
fn is_hit(bc: vec2f) -> bool {
    return bc.x >= 0.0 && bc.y >= 0.0 && bc.x + bc.y <= 1.0;
}

// Barycentric coordinates (a, b, c) clamped to the triangle.
fn clamp_barycentric(bc: vec2f) -> vec3f {
    let all = max(vec3f(1.0 - bc.x - bc.y, bc), vec3f(0.0));
    return all / (all.x + all.y + all.z);
}

fn unpack_rgba(packed: u32) -> vec4f {
    return unpack4x8unorm(packed);
}

fn sign_or_one(x: vec2f) -> vec2f {
    return select(vec2f(-1.0), vec2f(1.0), x >= vec2f(0.0));
}

fn decode_octahedral(packed: u32) -> vec3f {
    let encoded = vec2f(vec2u(packed & 0xffffu, packed >> 16u)) / 32767.0 - 1.0;
    let z = 1.0 - abs(encoded.x) - abs(encoded.y);
    let flat = select(encoded, (1.0 - abs(encoded.yx)) * sign_or_one(encoded), z < 0.0);
    return normalize(vec3f(flat, z));
}

// Octahedral encoding in two 16-bit numbers, x in the lower half.
fn encode_octahedral(normal: vec3f) -> u32 {
    let flat = normal.xy / (abs(normal.x) + abs(normal.y) + abs(normal.z));
    let encoded = select(flat, (1.0 - abs(flat.yx)) * sign_or_one(flat), normal.z < 0.0);
    let both = vec2u((clamp(encoded, vec2f(-1.0), vec2f(1.0)) + 1.0) * 32767.0 + 0.5);
    return both.x | (both.y << 16u);
}

// Remainder in 0..size, also of negative indices.
fn euclidean_remainder(index: i32, size: i32) -> i32 {
    let remainder = index % size;
    return select(remainder, remainder + size, remainder < 0);
}

fn wrap_index(index: i32, size: i32, wrap: u32) -> i32 {
    if wrap == WRAP_REPEAT {
        return euclidean_remainder(index, size);
    }
    if wrap == WRAP_MIRROR {
        let within = euclidean_remainder(index, 2 * size);
        return min(within, 2 * size - 1 - within);
    }
    return clamp(index, 0, size - 1);
}

struct MipmappedTexture {
    first_texel: u32,
    size: vec2u,
    num_levels: u32,
    wrap: vec2u,
}

fn load_texture(header: u32) -> MipmappedTexture {
    return MipmappedTexture(textures[header], vec2u(textures[header + 1u], textures[header + 2u]), textures[header + 3u],
        vec2u(textures[header + 4u], textures[header + 5u]));
}

fn texel(first_texel: u32, size: vec2i, wrap: vec2u, at: vec2i) -> vec4f {
    let x = wrap_index(at.x, size.x, wrap.x);
    let y = wrap_index(at.y, size.y, wrap.y);
    return unpack_rgba(textures[first_texel + u32(y * size.x + x)]);
}

fn bilinear(image: MipmappedTexture, level: u32, uv: vec2f) -> vec4f {
    var first_texel = image.first_texel;
    var size = image.size;
    for (var i = 0u; i < level; i++) {
        first_texel += size.x * size.y;
        size = max(size / 2u, vec2u(1u));
    }
    let position = uv * vec2f(size) - 0.5;
    let base = floor(position);
    let fraction = position - base;
    let at = vec2i(base);
    let above = mix(texel(first_texel, vec2i(size), image.wrap, at), texel(first_texel, vec2i(size), image.wrap, at + vec2i(1, 0)), fraction.x);
    let below = mix(texel(first_texel, vec2i(size), image.wrap, at + vec2i(0, 1)), texel(first_texel, vec2i(size), image.wrap, at + vec2i(1, 1)), fraction.x);
    return mix(above, below, fraction.y);
}

// `footprint_squared`: squared length of the longer of the pixel's two steps in the texture, in texels of mip level 0.
fn trilinear(image: MipmappedTexture, uv: vec2f, footprint_squared: f32) -> vec4f {
    let level = clamp(0.5 * log2(max(footprint_squared, 1.0)), 0.0, f32(image.num_levels - 1u));
    let finer_level = u32(level);
    let fraction = level - f32(finer_level);
    let color = bilinear(image, finer_level, uv);
    if fraction == 0.0 {
        return color;
    }
    return mix(color, bilinear(image, finer_level + 1u, uv), fraction);
}

fn interpolate_uv(index: u32, bc: vec2f) -> vec2f {
    let a = corners[3u * index].uv;
    return a + (corners[3u * index + 1u].uv - a) * bc.x + (corners[3u * index + 2u].uv - a) * bc.y;
}

fn length_squared(step: vec2f) -> f32 {
    return dot(step, step);
}

// Is the material's alpha below its cutoff where the pixel's ray hits the triangle?
fn fails_alpha_test(index: u32, pixel: vec2f) -> bool {
    let alpha_cutoff = materials[triangles[index].labels >> 16u].alpha_cutoff;
    return alpha_cutoff > 0.0 && material_color(index, view_triangle(triangles[index]), pixel).a < alpha_cutoff;
}

// RGBA of the triangle's own material where the pixel's ray hits it.
fn material_color(index: u32, view_tri: ViewTriangle, pixel: vec2f) -> vec4f {
    let material = materials[triangles[index].labels >> 16u];
    let weight = clamp_barycentric(barycentric(view_tri, pixel));
    let vertex_color = unpack_rgba(corners[3u * index].color) * weight.x + unpack_rgba(corners[3u * index + 1u].color) * weight.y
        + unpack_rgba(corners[3u * index + 2u].color) * weight.z;
    let color = unpack_rgba(material.base_color) * vertex_color;
    if material.texture == NO_TEXTURE {
        return color;
    }
    let image = load_texture(material.texture);
    let uv = interpolate_uv(index, weight.yz);
    let here = interpolate_uv(index, barycentric(view_tri, pixel));
    let right = (interpolate_uv(index, barycentric(view_tri, pixel + vec2f(1.0, 0.0))) - here) * vec2f(image.size);
    let down = (interpolate_uv(index, barycentric(view_tri, pixel + vec2f(0.0, 1.0))) - here) * vec2f(image.size);
    return color * trilinear(image, uv, max(length_squared(right), length_squared(down)));
}
