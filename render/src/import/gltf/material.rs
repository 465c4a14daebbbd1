//! Materials of a glTF: base color and its texture, alpha cutoff and vertex colors.
//!
//! Everything is read from the JSON by index: a document with broken materials is drawn in white rather than refused.
//! Factors and vertex colors are linear in the file and sRGB-encoded here, as textures are.

use std::collections::HashMap;

use glam::{Affine2, Mat2, Vec2};
use gltf::{
    Document, Primitive, Semantic,
    accessor::DataType,
    json::{
        self,
        extensions::texture::TextureTransform,
        material::AlphaMode,
        texture::{Info, WrappingMode},
        validation::Checked,
    },
};

use super::{ImportError, Reader};
use crate::{
    import::{
        mtl::DEFAULT_ALPHA_CUTOFF,
        texture::{Decoder, Loaded, Request, TextureError, read_beside},
        triangle_soup::TriangleSoup,
    },
    mesh::{Material, WarningKind, Wrap},
};

/// Material and vertex attributes of a primitive.
pub(super) struct VertexAttributes {
    pub(super) material: u16,
    /// One per vertex, or empty.
    pub(super) uvs: Vec<Vec2>,
    /// One per vertex, or empty.
    pub(super) colors: Vec<[u8; 4]>,
}

/// A material in the soup, and the source of its texture coordinates.
#[derive(Clone, Copy)]
struct ResolvedMaterial {
    material: u16,
    uv_set: Option<u32>,
    uv_transform: Affine2,
}

/// Loads materials at their first use.
pub(super) struct MaterialResolver<'a> {
    decoder: Decoder<'a>,
    cache: HashMap<Option<usize>, ResolvedMaterial>,
}

impl<'a> MaterialResolver<'a> {
    pub(super) fn new(decoder: Decoder<'a>) -> Self {
        Self {
            decoder,
            cache: HashMap::new(),
        }
    }

    pub(super) fn attributes(
        &mut self,
        soup: &mut TriangleSoup,
        reader: &mut Reader<'_>,
        document: &Document,
        primitive: &Primitive<'_>,
    ) -> VertexAttributes {
        let key = primitive.material().index();
        let resolved = if let Some(&resolved) = self.cache.get(&key) {
            resolved
        } else {
            let resolved = self.resolve(soup, reader, document, key);
            self.cache.insert(key, resolved);
            resolved
        };
        let mut uvs = Vec::new();
        if let Some(accessor) = resolved
            .uv_set
            .and_then(|set| primitive.get(&Semantic::TexCoords(set)))
        {
            match reader.numbers(&accessor, 2) {
                Ok(numbers) => uvs.extend(numbers.as_chunks().0.iter().map(|&[u, v]| {
                    resolved
                        .uv_transform
                        .transform_point2(Vec2::new(u as f32, v as f32))
                })),
                Err(error) => soup.warnings.push(
                    WarningKind::Attribute,
                    format!("texture coordinates are left out: {error}"),
                ),
            }
        }
        let colors = match vertex_colors(reader, primitive) {
            Ok(colors) => colors,
            Err(error) => {
                soup.warnings.push(
                    WarningKind::Attribute,
                    format!("vertex colors are left out: {error}"),
                );
                Vec::new()
            }
        };
        VertexAttributes {
            material: resolved.material,
            uvs,
            colors,
        }
    }

    fn resolve(
        &mut self,
        soup: &mut TriangleSoup,
        reader: &mut Reader<'_>,
        document: &Document,
        index: Option<usize>,
    ) -> ResolvedMaterial {
        let mut resolved = ResolvedMaterial {
            material: 0,
            uv_set: None,
            uv_transform: Affine2::IDENTITY,
        };
        let root = document.as_json();
        let Some(material) = index.and_then(|index| root.materials.get(index)) else {
            resolved.material = soup.material(Material::white());
            return resolved;
        };
        let (factor, texture) = base_color(material);
        let [r, g, b, a] = factor;
        let mut material = Material {
            name: material.name.clone().unwrap_or_default(),
            base_color: color([r, g, b].map(f64::from), f64::from(a)),
            texture: None,
            alpha_cutoff: match material.alpha_mode {
                Checked::Valid(AlphaMode::Mask) => {
                    let cutoff = material
                        .alpha_cutoff
                        .map_or(DEFAULT_ALPHA_CUTOFF, |cutoff| cutoff.0);
                    Some(if cutoff.is_finite() {
                        cutoff.clamp(0.0, 1.0)
                    } else {
                        DEFAULT_ALPHA_CUTOFF
                    })
                }
                _ => None,
            },
        };
        let is_blended = index.is_some_and(|index| {
            matches!(root.materials[index].alpha_mode, Checked::Valid(AlphaMode::Blend))
        });
        if let Some(info) = texture
            && let Some(loaded) = self.texture(soup, reader, document, info)
        {
            let transform = info
                .extensions
                .as_ref()
                .and_then(|extensions| extensions.texture_transform.as_ref());
            material.texture = Some(loaded.index);
            resolved.uv_set = Some(
                transform
                    .and_then(|transform| transform.tex_coord)
                    .unwrap_or(info.tex_coord),
            );
            resolved.uv_transform = transform.map_or(Affine2::IDENTITY, uv_transform);
            // There is no alpha blending here: a texture with transparency gets an alpha cutoff instead. Uniformly
            // transparent glass stays opaque.
            if is_blended && loaded.has_transparency {
                material.alpha_cutoff = Some(DEFAULT_ALPHA_CUTOFF);
                material.base_color[3] = u8::MAX;
            }
        }
        resolved.material = soup.material(material);
        resolved
    }

    fn texture(
        &mut self,
        soup: &mut TriangleSoup,
        reader: &mut Reader<'_>,
        document: &Document,
        info: &Info,
    ) -> Option<Loaded> {
        let root = document.as_json();
        let texture = root.textures.get(info.index.value());
        let found = texture.and_then(|texture| {
            let plain = texture.source.value();
            [Some(plain), webp_of(texture)]
                .into_iter()
                .flatten()
                .find_map(|source| Some((source, root.images.get(source)?)))
        });
        let Some((source, image)) = found else {
            let index = info.index.value();
            let extensions = texture.map(extensions_of).unwrap_or_default();
            let sentence = if extensions.is_empty() {
                format!("the texture {index} has no image that can be read")
            } else {
                format!("the texture {index} is left out: only {extensions} has its image")
            };
            soup.warnings.push(WarningKind::Texture, sentence);
            return None;
        };
        let wrap = texture
            .and_then(|texture| root.samplers.get(texture.sampler?.value()))
            .map_or([Wrap::Repeat; 2], |sampler| {
                [wrap(sampler.wrap_s), wrap(sampler.wrap_t)]
            });
        let file = image.uri.as_deref().filter(|uri| !uri.starts_with("data:"));
        let name = file
            .or(image.name.as_deref())
            .map_or_else(|| format!("image {source}"), str::to_owned);
        let assets = reader.buffers.assets();
        let request = Request {
            // Embedded images may share a name; files don't.
            name: if file.is_some() {
                name
            } else {
                format!("{name} (image {source})")
            },
            folder: String::new(),
            opacity: None,
            wrap,
        };
        self.decoder.get(soup, request, || {
            let embedded = |error: ImportError| TextureError::Embedded(Box::new(error));
            if let Some(uri) = &image.uri {
                return match super::container::data_of_uri(uri) {
                    Some(data) => data.map_err(embedded),
                    None => Ok(read_beside(assets, &super::container::percent_decode(uri))?),
                };
            }
            let view = image
                .buffer_view
                .and_then(|view| document.views().nth(view.value()))
                .ok_or_else(|| embedded(super::file_error("an image has neither a URI nor a buffer view")))?;
            Ok(reader.buffers.view(&view).map_err(embedded)?.to_vec())
        })
    }
}

/// The image of a texture with `EXT_texture_webp`.
fn webp_of(texture: &json::Texture) -> Option<usize> {
    let webp = texture.extensions.as_ref()?.others.get("EXT_texture_webp")?;
    usize::try_from(webp.get("source")?.as_u64()?).ok()
}

/// The names of a texture's extensions.
fn extensions_of(texture: &json::Texture) -> String {
    let names = texture.extensions.iter().flat_map(|all| all.others.keys());
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Base color and its texture; those of the specular-glossiness extension if present.
fn base_color(material: &json::Material) -> ([f32; 4], Option<&Info>) {
    let specular = material
        .extensions
        .as_ref()
        .and_then(|extensions| extensions.pbr_specular_glossiness.as_ref());
    if let Some(specular) = specular {
        return (specular.diffuse_factor.0, specular.diffuse_texture.as_ref());
    }
    let metallic = &material.pbr_metallic_roughness;
    (metallic.base_color_factor.0, metallic.base_color_texture.as_ref())
}

fn wrap(mode: Checked<WrappingMode>) -> Wrap {
    match mode {
        Checked::Valid(WrappingMode::ClampToEdge) => Wrap::Clamp,
        Checked::Valid(WrappingMode::MirroredRepeat) => Wrap::Mirror,
        _ => Wrap::Repeat,
    }
}

/// Scale, then rotation (counter-clockwise in the image), then translation.
fn uv_transform(transform: &TextureTransform) -> Affine2 {
    let rotation = Mat2::from_angle(-transform.rotation.0);
    let scale = Mat2::from_diagonal(Vec2::from(transform.scale.0));
    Affine2::from_mat2_translation(rotation * scale, Vec2::from(transform.offset.0))
}

fn vertex_colors(reader: &mut Reader<'_>, primitive: &Primitive<'_>) -> Result<Vec<[u8; 4]>, ImportError> {
    let Some(accessor) = primitive.get(&Semantic::Colors(0)) else {
        return Ok(Vec::new());
    };
    let num_components = accessor.dimensions().multiplicity();
    if num_components != 3 && num_components != 4 {
        return Err(super::file_error("a color has neither three nor four components"));
    }
    let numbers = reader.numbers(&accessor, num_components)?;
    // Integers must be normalized; some writers forget to say so.
    let one = match accessor.data_type() {
        DataType::U8 if !accessor.normalized() => f64::from(u8::MAX),
        DataType::U16 if !accessor.normalized() => f64::from(u16::MAX),
        _ => 1.0,
    };
    Ok(numbers
        .chunks_exact(num_components)
        .map(|element| {
            let opacity = element.get(3).map_or(1.0, |opacity| opacity / one);
            color(
                [element[0], element[1], element[2]].map(|channel| channel / one),
                opacity,
            )
        })
        .collect())
}

/// Encodes linear color as sRGB bytes; opacity is not encoded.
fn color(linear: [f64; 3], opacity: f64) -> [u8; 4] {
    let byte = |number: f64| (number.clamp(0.0, 1.0) * 255.0).round() as u8;
    let encode = |linear: f64| {
        byte(if linear <= 0.003_130_8 {
            12.92 * linear
        } else {
            1.055 * linear.powf(1.0 / 2.4) - 0.055
        })
    };
    let [r, g, b] = linear.map(encode);
    [r, g, b, byte(opacity)]
}
