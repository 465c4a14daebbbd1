// What a triangle looks like where a pixel's ray meets it. `view.wgsl` goes before. Its twin is `shade/` in tap-render.

@group(1) @binding(0) var<storage, read> points: array<f32>;
@group(1) @binding(1) var<storage, read> triangles: array<Triangle>;
// Three a triangle, or one that stands for none.
@group(1) @binding(2) var<storage, read> corners: array<Corner>;
@group(1) @binding(3) var<storage, read> materials: array<Material>;
// The headers of all textures, then their texels, level by level.
@group(1) @binding(4) var<storage, read> textures: array<u32>;

struct Triangle {
    normal: vec3f,
    // Part in the lower half, material in the upper.
    labels: u32,
    a: u32,
    b: u32,
    c: u32,
    pad: u32,
}

struct Corner {
    uv: vec2f,
    // Octahedral, of the smooth surface.
    normal: u32,
    // Red in the lowest byte.
    color: u32,
}

struct Material {
    // Red in the lowest byte.
    base_color: u32,
    // Where its texture's header begins, or NO_TEXTURE.
    texture: u32,
    // Alpha below it is a hole; 0 or less: there is none.
    cutout: f32,
    pad: u32,
}

const NO_TEXTURE = 0xffffffffu;
// Words of a texture's header: first texel, width, height, number of levels, wrap of u and of v.
const REPEAT = 0u;
const MIRROR = 1u;

fn point_in_view(index: u32) -> vec3f {
    let point = vec3f(points[3u * index], points[3u * index + 1u], points[3u * index + 2u]);
    return (view.view_from_object * vec4f(point, 1.0)).xyz;
}

fn rotate(vector: vec3f) -> vec3f {
    return mat3x3f(view.view_from_object[0].xyz, view.view_from_object[1].xyz, view.view_from_object[2].xyz) * vector;
}

// Of the ray through a point of the picture, z = -1.
fn ray_direction(pixel: vec2f) -> vec3f {
    return select(vec3f(pixel * view.ray_scale + view.ray_offset, -1.0), vec3f(0.0, 0.0, -1.0), has(PARALLEL));
}

// A normal of the side that a ray sees.
fn towards_viewer(normal: vec3f, face: vec3f, direction: vec3f) -> vec3f {
    return select(normal, -normal, dot(face, direction) > 0.0);
}

struct Plane {
    a: vec3f,
    ab: vec3f,
    ac: vec3f,
}

fn plane_of(triangle: Triangle) -> Plane {
    let a = point_in_view(triangle.a);
    return Plane(a, point_in_view(triangle.b) - a, point_in_view(triangle.c) - a);
}

// How much of b and of c the ray through a pixel meets; beyond the triangle one of them, or the rest, is negative.
fn weights(plane: Plane, pixel: vec2f) -> vec2f {
    let direction = ray_direction(pixel);
    // The ray where it is as far as corner a, seen from there: small numbers stay exact.
    let place = select(direction.xy * -plane.a.z, pixel * view.ray_scale + view.ray_offset, has(PARALLEL));
    let start = vec3f(place - plane.a.xy, 0.0);
    let across = cross(direction, plane.ac);
    let determinant = dot(plane.ab, across);
    let both = vec2f(dot(start, across), dot(direction, cross(start, plane.ab)));
    return select(both / determinant, vec2f(1.0 / 3.0), determinant == 0.0);
}

// Does a ray of these weights meet the triangle, not only its plane?
fn meets(bc: vec2f) -> bool {
    return bc.x >= 0.0 && bc.y >= 0.0 && bc.x + bc.y <= 1.0;
}

// The nearest weights that lie on the triangle, of all three corners.
fn on_triangle(bc: vec2f) -> vec3f {
    let all = max(vec3f(1.0 - bc.x - bc.y, bc), vec3f(0.0));
    return all / (all.x + all.y + all.z);
}

fn rgba(packed: u32) -> vec4f {
    return unpack4x8unorm(packed);
}

fn sign_or_one(x: vec2f) -> vec2f {
    return select(vec2f(-1.0), vec2f(1.0), x >= vec2f(0.0));
}

fn unfold(packed: u32) -> vec3f {
    let folded = vec2f(vec2u(packed & 0xffffu, packed >> 16u)) / 32767.0 - 1.0;
    let z = 1.0 - abs(folded.x) - abs(folded.y);
    let flat = select(folded, (1.0 - abs(folded.yx)) * sign_or_one(folded), z < 0.0);
    return normalize(vec3f(flat, z));
}

// A unit vector folded onto the square of two 16-bit numbers, +z in the middle.
fn fold(normal: vec3f) -> u32 {
    let flat = normal.xy / (abs(normal.x) + abs(normal.y) + abs(normal.z));
    let folded = select(flat, (1.0 - abs(flat.yx)) * sign_or_one(flat), normal.z < 0.0);
    let both = vec2u((clamp(folded, vec2f(-1.0), vec2f(1.0)) + 1.0) * 32767.0 + 0.5);
    return both.x | (both.y << 16u);
}

// The remainder that is not negative.
fn modulo(index: i32, size: i32) -> i32 {
    let remainder = index % size;
    return select(remainder, remainder + size, remainder < 0);
}

fn wrapped(index: i32, size: i32, wrap: u32) -> i32 {
    if wrap == REPEAT {
        return modulo(index, size);
    }
    if wrap == MIRROR {
        let within = modulo(index, 2 * size);
        return min(within, 2 * size - 1 - within);
    }
    return clamp(index, 0, size - 1);
}

struct Texture {
    first: u32,
    size: vec2u,
    num_levels: u32,
    wrap: vec2u,
}

fn texture_at(header: u32) -> Texture {
    return Texture(textures[header], vec2u(textures[header + 1u], textures[header + 2u]), textures[header + 3u],
        vec2u(textures[header + 4u], textures[header + 5u]));
}

fn texel(first: u32, size: vec2i, wrap: vec2u, at: vec2i) -> vec4f {
    let x = wrapped(at.x, size.x, wrap.x);
    let y = wrapped(at.y, size.y, wrap.y);
    return rgba(textures[first + u32(y * size.x + x)]);
}

fn bilinear(image: Texture, level: u32, uv: vec2f) -> vec4f {
    var first = image.first;
    var size = image.size;
    for (var i = 0u; i < level; i++) {
        first += size.x * size.y;
        size = max(size / 2u, vec2u(1u));
    }
    let place = uv * vec2f(size) - 0.5;
    let corner = floor(place);
    let part = place - corner;
    let at = vec2i(corner);
    let above = mix(texel(first, vec2i(size), image.wrap, at), texel(first, vec2i(size), image.wrap, at + vec2i(1, 0)), part.x);
    let below = mix(texel(first, vec2i(size), image.wrap, at + vec2i(0, 1)), texel(first, vec2i(size), image.wrap, at + vec2i(1, 1)), part.x);
    return mix(above, below, part.y);
}

// `per_pixel` is the larger of a pixel's two steps in the texture, in texels of the finest level, squared.
fn trilinear(image: Texture, uv: vec2f, per_pixel: f32) -> vec4f {
    let level = clamp(0.5 * log2(max(per_pixel, 1.0)), 0.0, f32(image.num_levels - 1u));
    let finer = u32(level);
    let part = level - f32(finer);
    let color = bilinear(image, finer, uv);
    if part == 0.0 {
        return color;
    }
    return mix(color, bilinear(image, finer + 1u, uv), part);
}

fn uv_of(index: u32, bc: vec2f) -> vec2f {
    let a = corners[3u * index].uv;
    return a + (corners[3u * index + 1u].uv - a) * bc.x + (corners[3u * index + 2u].uv - a) * bc.y;
}

fn step_squared(step: vec2f) -> f32 {
    return dot(step, step);
}

// Color and alpha of a triangle's own material where a pixel's ray meets it.
fn own_color(index: u32, plane: Plane, pixel: vec2f) -> vec4f {
    let material = materials[triangles[index].labels >> 16u];
    let weight = on_triangle(weights(plane, pixel));
    let vertex_color = rgba(corners[3u * index].color) * weight.x + rgba(corners[3u * index + 1u].color) * weight.y
        + rgba(corners[3u * index + 2u].color) * weight.z;
    let color = rgba(material.base_color) * vertex_color;
    if material.texture == NO_TEXTURE {
        return color;
    }
    let image = texture_at(material.texture);
    let uv = uv_of(index, weight.yz);
    let here = uv_of(index, weights(plane, pixel));
    let right = (uv_of(index, weights(plane, pixel + vec2f(1.0, 0.0))) - here) * vec2f(image.size);
    let down = (uv_of(index, weights(plane, pixel + vec2f(0.0, 1.0))) - here) * vec2f(image.size);
    return color * trilinear(image, uv, max(step_squared(right), step_squared(down)));
}
