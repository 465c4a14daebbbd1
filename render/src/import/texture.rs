//! Decodes image files to [`Texture`]s in bounded memory: images larger than a view can show are downsampled, absurdly
//! large ones are refused by name.

use std::{collections::HashMap, io::Cursor};

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};

use super::{AssetError, AssetResolver, ImportError, triangle_soup::TriangleSoup};
use crate::mesh::{Texture, WarningKind, Wrap};

/// Most bytes of a decoded image: 8192 x 8192 RGBA texels.
const MAX_DECODED_BYTES: u64 = 1 << 28;
/// Most decoded bytes per encoded byte: more than deflate can reach.
const MAX_INFLATION: u64 = 2048;
/// Most decoded bytes of all images of a mesh, one after the other; it bounds the time.
const MAX_DECODED_BYTES_PER_MESH: u64 = 1 << 32;
/// Most texels of all textures of a mesh; further ones are downsampled until they fit.
const MAX_TEXELS_PER_MESH: usize = 1 << 26;

/// Why an image cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub(super) enum TextureError {
    #[error("{width} x {height} texels are more than can be held")]
    TooLarge { width: u32, height: u32 },
    #[error("the textures of this mesh are more than can be decoded")]
    TooMany,
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Asset(#[from] AssetError),
    #[error(transparent)]
    Embedded(Box<ImportError>),
}

/// An image that a mesh refers to; the cache key of a texture.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Request {
    /// The file's name, or the image's name in the container.
    pub(super) name: String,
    /// Folder of the file that refers to the image, relative to the mesh, where it is looked up first. Ends with `/`,
    /// or is empty.
    pub(super) folder: String,
    /// An image whose brightness or alpha is the opacity of the first. If it is the same image, that one gives opacity
    /// only.
    pub(super) opacity: Option<String>,
    pub(super) wrap: [Wrap; 2],
}

/// A texture in the soup.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loaded {
    pub(super) index: u16,
    /// Is any texel less than opaque?
    pub(super) has_transparency: bool,
}

/// Decodes each image of a soup once.
pub(super) struct Decoder<'a> {
    assets: &'a dyn AssetResolver,
    max_side_px: u32,
    cache: HashMap<Request, Option<Loaded>>,
    decoded_bytes_left: u64,
    texels_left: usize,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(assets: &'a dyn AssetResolver, max_side_px: u32) -> Self {
        Self {
            assets,
            max_side_px: max_side_px.max(1),
            cache: HashMap::new(),
            decoded_bytes_left: MAX_DECODED_BYTES_PER_MESH,
            texels_left: MAX_TEXELS_PER_MESH,
        }
    }

    /// The texture of an image file. If it cannot be read, a warning is added and the mesh goes without.
    pub(super) fn file(&mut self, soup: &mut TriangleSoup, request: Request) -> Option<Loaded> {
        let (folder, name) = (request.folder.clone(), request.name.clone());
        let assets = self.assets;
        self.get(soup, request, || Ok(read_below(assets, &folder, &name)?))
    }

    /// As [`Decoder::file`], with another source for the first image's bytes.
    pub(super) fn get(
        &mut self,
        soup: &mut TriangleSoup,
        request: Request,
        read: impl FnOnce() -> Result<Vec<u8>, TextureError>,
    ) -> Option<Loaded> {
        if let Some(&cache) = self.cache.get(&request) {
            return cache;
        }
        let loaded = self.load(soup, &request, read);
        self.cache.insert(request, loaded);
        loaded
    }

    fn load(
        &mut self,
        soup: &mut TriangleSoup,
        request: &Request,
        read: impl FnOnce() -> Result<Vec<u8>, TextureError>,
    ) -> Option<Loaded> {
        let Ok(index) = u16::try_from(soup.appearance.textures.len()) else {
            soup.warnings.push(
                WarningKind::Texture,
                "more than 65,536 textures: the rest is left out".to_owned(),
            );
            return None;
        };
        let name = &request.name;
        let mut image = match read().and_then(|bytes| self.decode(name, &bytes)) {
            Ok(image) => image,
            Err(problem) => {
                soup.warnings.push(
                    WarningKind::Texture,
                    format!("the texture \"{name}\" is left out: {problem}"),
                );
                return None;
            }
        };
        if let Some(opacity) = &request.opacity {
            let decoded = read_below(self.assets, &request.folder, opacity)
                .map_err(TextureError::from)
                .and_then(|bytes| self.decode(opacity, &bytes));
            match decoded {
                Ok(map) => {
                    image.set_opacity(&map);
                    if opacity == name {
                        image.whiten();
                    }
                }
                Err(problem) => soup.warnings.push(
                    WarningKind::Texture,
                    format!("the opacity map \"{opacity}\" is left out: {problem}"),
                ),
            }
        }
        self.texels_left -= image.texels.len().min(self.texels_left);
        let has_transparency = image.has_transparency();
        soup.appearance.textures.push(Texture {
            name: name.clone(),
            width: image.width,
            height: image.height,
            texels: image.texels,
            wrap: request.wrap,
        });
        Some(Loaded {
            index,
            has_transparency,
        })
    }

    fn decode(&mut self, name: &str, bytes: &[u8]) -> Result<TexelImage, TextureError> {
        let mut reader = ImageReader::new(Cursor::new(bytes))
            .with_guessed_format()
            .map_err(ImageError::IoError)?;
        // TGA has no magic number.
        if reader.format().is_none() && name.to_ascii_lowercase().ends_with(".tga") {
            reader.set_format(ImageFormat::Tga);
        }
        let decoder = reader.into_decoder()?;
        let (width, height) = decoder.dimensions();
        let decoded_bytes = decoder.total_bytes();
        let max_inflated_bytes = MAX_INFLATION * bytes.len() as u64;
        if decoded_bytes > MAX_DECODED_BYTES.min(max_inflated_bytes) || width == 0 || height == 0 {
            return Err(TextureError::TooLarge { width, height });
        }
        self.decoded_bytes_left = self
            .decoded_bytes_left
            .checked_sub(decoded_bytes)
            .ok_or(TextureError::TooMany)?;
        let image = DynamicImage::from_decoder(decoder)?;
        let longer = width.max(height);
        let mut side = longer.min(self.max_side_px);
        let size_at = |side: u32| {
            let scaled = |length: u32| {
                ((u64::from(length) * u64::from(side) + u64::from(longer) / 2) / u64::from(longer)).max(1)
            };
            (scaled(width) as u32, scaled(height) as u32)
        };
        while side > 1 {
            let (width, height) = size_at(side);
            if width as usize * height as usize <= self.texels_left {
                break;
            }
            side /= 2;
        }
        let (width, height) = size_at(side);
        Ok(TexelImage::shrink(&image, width, height))
    }
}

/// Reads a file by its name, or else by its last component beside the mesh: exporters write paths of the machine that
/// they ran on.
pub(super) fn read_beside(assets: &dyn AssetResolver, name: &str) -> Result<Vec<u8>, AssetError> {
    let portable = name.replace('\\', "/");
    let error = match assets.read(&portable) {
        Ok(bytes) => return Ok(bytes),
        Err(error) => error,
    };
    match (portable.rsplit_once('/'), &error) {
        (
            Some((_, file)),
            AssetError::NotFound { .. } | AssetError::Outside { .. } | AssetError::Io { .. },
        ) if !file.is_empty() => assets.read(file).map_err(|_| error),
        _ => Err(error),
    }
}

/// As [`read_beside`], but tries the folder first.
fn read_below(assets: &dyn AssetResolver, folder: &str, name: &str) -> Result<Vec<u8>, AssetError> {
    if !folder.is_empty()
        && let Ok(bytes) = assets.read(&format!("{folder}{}", name.replace('\\', "/")))
    {
        return Ok(bytes);
    }
    read_beside(assets, name)
}

/// Texels, row by row from the top.
struct TexelImage {
    width: u32,
    height: u32,
    texels: Vec<[u8; 4]>,
}

impl TexelImage {
    /// Downsamples to `width` x `height` texels by a box filter, weighted by opacity.
    fn shrink(image: &DynamicImage, width: u32, height: u32) -> Self {
        let texels = match image {
            DynamicImage::ImageLuma8(image) => shrink(
                image.as_raw(),
                image.dimensions(),
                width,
                height,
                |&[l]: &[u8; 1]| [l, l, l, u8::MAX],
            ),
            DynamicImage::ImageRgb8(image) => shrink(
                image.as_raw(),
                image.dimensions(),
                width,
                height,
                |&[r, g, b]: &[u8; 3]| [r, g, b, u8::MAX],
            ),
            DynamicImage::ImageRgba8(image) => {
                shrink(image.as_raw(), image.dimensions(), width, height, |&texel| texel)
            }
            other => {
                let image = other.to_rgba8();
                shrink(image.as_raw(), image.dimensions(), width, height, |&texel| texel)
            }
        };
        Self {
            width,
            height,
            texels,
        }
    }

    fn has_transparency(&self) -> bool {
        self.texels.iter().any(|texel| texel[3] != u8::MAX)
    }

    /// Takes the alpha of another image, or its brightness if that is opaque everywhere.
    fn set_opacity(&mut self, opacity: &Self) {
        let has_transparency = opacity.has_transparency();
        for (row, texels) in self.texels.chunks_exact_mut(self.width as usize).enumerate() {
            let from_row = row as u64 * u64::from(opacity.height) / u64::from(self.height);
            for (column, texel) in texels.iter_mut().enumerate() {
                let from_column = column as u64 * u64::from(opacity.width) / u64::from(self.width);
                let from = opacity.texels[(from_row * u64::from(opacity.width) + from_column) as usize];
                texel[3] = if has_transparency { from[3] } else { from[1] };
            }
        }
    }

    fn whiten(&mut self) {
        for texel in &mut self.texels {
            texel[..3].fill(u8::MAX);
        }
    }
}

fn shrink<const N: usize>(
    raw: &[u8],
    (from_width, from_height): (u32, u32),
    width: u32,
    height: u32,
    texel_of: impl Fn(&[u8; N]) -> [u8; 4],
) -> Vec<[u8; 4]> {
    let pixels = raw.as_chunks::<N>().0;
    if (from_width, from_height) == (width, height) {
        return pixels.iter().map(texel_of).collect();
    }
    let span = |index: u32, to: u32, from: u32| {
        let at = |index: u32| (u64::from(index) * u64::from(from) / u64::from(to)) as usize;
        at(index)..at(index + 1)
    };
    let mut texels = Vec::with_capacity(width as usize * height as usize);
    for row in 0..height {
        let rows = span(row, height, from_height);
        for column in 0..width {
            let columns = span(column, width, from_width);
            let (mut plain, mut weighted) = ([0_u64; 4], [0_u64; 3]);
            for row in rows.clone() {
                let start = row * from_width as usize;
                for pixel in &pixels[start + columns.start..start + columns.end] {
                    let texel = texel_of(pixel).map(u64::from);
                    for channel in 0..3 {
                        plain[channel] += texel[channel];
                        weighted[channel] += texel[channel] * texel[3];
                    }
                    plain[3] += texel[3];
                }
            }
            let num_pixels = (rows.len() * columns.len()) as u64;
            let mean = |sum: u64, weight: u64| ((sum + weight / 2) / weight) as u8;
            let channel = |channel: usize| match plain[3] {
                0 => mean(plain[channel], num_pixels),
                opacity => mean(weighted[channel], opacity),
            };
            texels.push([channel(0), channel(1), channel(2), mean(plain[3], num_pixels)]);
        }
    }
    texels
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::NoAssets;
    use super::*;

    fn png(width: u32, height: u32, color: png::ColorType, pixels: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(color);
        encoder.write_header().unwrap().write_image_data(pixels).unwrap();
        bytes
    }

    fn decode(bytes: &[u8], max_side_px: u32) -> Result<TexelImage, TextureError> {
        Decoder::new(&NoAssets, max_side_px).decode("image", bytes)
    }

    #[test]
    fn large_images_are_downsampled_weighted_by_opacity() {
        let pixels = [[200, 0, 0, 255], [0, 0, 0, 0], [100, 0, 0, 255], [0, 0, 0, 0]].concat();
        let image = decode(&png(2, 2, png::ColorType::Rgba, &pixels), 1).unwrap();
        assert_eq!((image.width, image.height), (1, 1));
        assert_eq!(image.texels, [[150, 0, 0, 128]]);
        let image = decode(&png(3, 1, png::ColorType::Grayscale, &[10, 20, 30]), 2).unwrap();
        assert_eq!((image.width, image.height), (2, 1));
        assert_eq!(image.texels, [[10, 10, 10, 255], [25, 25, 25, 255]]);
    }

    #[test]
    fn a_gigantic_image_is_refused_before_it_is_decoded() {
        // The header of a PNG of 60,000 x 60,000 pixels, without the data.
        let mut bytes = png(1, 1, png::ColorType::Rgb, &[0, 0, 0]);
        bytes[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
        bytes[20..24].copy_from_slice(&60_000_u32.to_be_bytes());
        let mut crc = u32::MAX;
        for &byte in &bytes[12..29] {
            crc ^= u32::from(byte);
            for _ in 0..8 {
                crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
            }
        }
        bytes[29..33].copy_from_slice(&(!crc).to_be_bytes());
        let problem = decode(&bytes, 2048).err().unwrap().to_string();
        assert!(problem.contains("60000 x 60000"), "{problem}");
    }

    #[test]
    fn foreign_paths_fall_back_to_the_file_name() {
        struct Folder;
        impl AssetResolver for Folder {
            fn read(&self, relative: &str) -> Result<Vec<u8>, AssetError> {
                match relative {
                    "wood.png" => Ok(vec![1]),
                    "maps/wood.png" => Ok(vec![2]),
                    _ => Err(AssetError::Outside {
                        name: relative.to_owned(),
                    }),
                }
            }
        }
        for (name, expected) in [
            ("wood.png", 1),
            ("C:\\Users\\me\\maps\\wood.png", 1),
            ("/home/me/wood.png", 1),
            ("../../wood.png", 1),
            ("maps\\wood.png", 2),
        ] {
            assert_eq!(read_beside(&Folder, name).unwrap(), [expected], "{name}");
        }
        assert!(matches!(
            read_beside(&Folder, "../../etc/passwd"),
            Err(AssetError::Outside { name }) if name == "../../etc/passwd"
        ));
    }

    #[test]
    fn opacity_comes_from_the_second_image() {
        let mut image = decode(&png(2, 1, png::ColorType::Grayscale, &[50, 60]), 8).unwrap();
        image.set_opacity(&decode(&png(1, 1, png::ColorType::Grayscale, &[7]), 8).unwrap());
        assert_eq!(image.texels, [[50, 50, 50, 7], [60, 60, 60, 7]]);
        image.set_opacity(&decode(&png(1, 1, png::ColorType::Rgba, &[1, 2, 3, 4]), 8).unwrap());
        assert_eq!(image.texels[0], [50, 50, 50, 4]);
    }
}
