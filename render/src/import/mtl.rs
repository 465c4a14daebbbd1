//! MTL, the material library of OBJ: diffuse color, its texture, and the opacity map.
//!
//! `Kd` is taken as sRGB-encoded, as it is authored. `d` and `Tr` never make a whole material transparent, since
//! exporters disagree on which of 0 and 1 is opaque; only an image with transparency gets an alpha cutoff.
//!
//! The MTL reader of the `tobj` crate does not fit: it keeps a map's options (`-s`, `-o`, `-clamp`) and quotes as part
//! of the file name, does not read `Tr` and `map_opacity`, panics at a `Kd` of one number, and refuses a library for one
//! malformed number or a byte that is not UTF-8.

use glam::Vec2;

use super::{
    number, text,
    texture::{Decoder, Request},
    triangle_soup::TriangleSoup,
};
use crate::mesh::{Material, WarningKind, Wrap};

/// Alpha cutoff of textures with transparency.
pub(super) const DEFAULT_ALPHA_CUTOFF: f32 = 0.5;

/// One `newmtl` block.
#[derive(Debug, Default, PartialEq)]
pub(super) struct MtlMaterial {
    pub(super) name: String,
    /// Folder of its library, as in [`Request`].
    folder: String,
    diffuse: Option<[f64; 3]>,
    opacity: Option<f64>,
    map: Option<Map>,
    opacity_map: Option<Map>,
    /// Is there a map of the ambient color, which is not drawn?
    has_ambient_map: bool,
}

/// A texture map statement.
#[derive(Debug, PartialEq)]
struct Map {
    file: String,
    scale: Vec2,
    offset: Vec2,
    clamps: bool,
}

/// Maps texture coordinates of the file to the texture.
#[derive(Debug, Clone, Copy)]
pub(super) struct UvTransform {
    scale: Vec2,
    offset: Vec2,
}

impl UvTransform {
    pub(super) const IDENTITY: Self = Self {
        scale: Vec2::ONE,
        offset: Vec2::ZERO,
    };

    /// In OBJ v grows upwards.
    pub(super) fn apply(self, uv: Vec2) -> Vec2 {
        let Vec2 { x, y } = uv * self.scale + self.offset;
        Vec2::new(x, 1.0 - y)
    }
}

/// All materials of a library, in order; unknown statements are ignored.
pub(super) fn parse(library: &str, bytes: &[u8]) -> Vec<MtlMaterial> {
    let library = library.replace('\\', "/");
    let folder = library.rfind('/').map_or("", |slash| &library[..=slash]);
    let mut definitions: Vec<MtlMaterial> = Vec::new();
    for line in text::decode(bytes).split(|&byte| byte == b'\n') {
        let line = line.trim_ascii();
        let (keyword, rest) = text::split_word(line);
        let (keyword, rest) = (keyword.to_ascii_lowercase(), rest.trim_ascii());
        if keyword == b"newmtl" {
            definitions.push(MtlMaterial {
                name: text::name(rest),
                folder: folder.to_owned(),
                ..MtlMaterial::default()
            });
        }
        let Some(definition) = definitions.last_mut() else {
            continue;
        };
        let number = || number::parse_f64(text::words(rest).next()?).filter(|number| number.is_finite());
        match keyword.as_slice() {
            b"kd" => definition.diffuse = color(rest).or(definition.diffuse),
            b"d" => definition.opacity = number().or(definition.opacity),
            b"tr" => definition.opacity = definition.opacity.or(number().map(|number| 1.0 - number)),
            b"map_ka" => definition.has_ambient_map = true,
            b"map_kd" => definition.map = map(rest).or(definition.map.take()),
            b"map_d" | b"map_opacity" => {
                definition.opacity_map = map(rest).or(definition.opacity_map.take());
            }
            _ => {}
        }
    }
    definitions
}

/// Three numbers, or one for all three; no spectra or CIE coordinates.
fn color(text: &[u8]) -> Option<[f64; 3]> {
    let mut numbers = text::words(text).map(number::parse_f64);
    let r = numbers.next()??;
    let g = numbers.next().unwrap_or(Some(r))?;
    let b = numbers.next().unwrap_or(Some(r))?;
    let color = [r, g, b];
    color.iter().all(|channel| channel.is_finite()).then_some(color)
}

/// `-option value... file name`; names may contain spaces.
fn map(text: &[u8]) -> Option<Map> {
    let (mut scale, mut offset, mut clamps) = (Vec2::ONE, Vec2::ZERO, false);
    let mut rest = text;
    loop {
        let (option, after) = text::split_word(rest);
        let max_values = match option.to_ascii_lowercase().as_slice() {
            b"-o" | b"-s" | b"-t" => 3,
            b"-mm" => 2,
            b"-blendu" | b"-blendv" | b"-boost" | b"-texres" | b"-clamp" | b"-bm" | b"-imfchan"
            | b"-type" | b"-cc" | b"-colorspace" => 1,
            _ => break,
        };
        rest = after;
        let mut numbers = Vec::new();
        for _ in 0..max_values {
            let (value, after) = text::split_word(rest);
            let number = number::parse_f64(value).filter(|number| number.is_finite());
            // The vectors may have fewer than three components; the other options have one value, number or not.
            if number.is_none() && max_values != 1 {
                break;
            }
            if option.eq_ignore_ascii_case(b"-clamp") {
                clamps = value.eq_ignore_ascii_case(b"on");
            }
            numbers.extend(number);
            rest = after;
        }
        let vector = |missing: f32| {
            let number = |index: usize| numbers.get(index).map_or(missing, |&number| number as f32);
            Vec2::new(number(0), number(1))
        };
        match option.to_ascii_lowercase().as_slice() {
            b"-s" => scale = vector(1.0),
            b"-o" => offset = vector(0.0),
            _ => {}
        }
    }
    let file = text::name(rest);
    (!file.is_empty()).then_some(Map {
        file,
        scale,
        offset,
        clamps,
    })
}

impl MtlMaterial {
    /// Decodes the material's textures into the soup. The caller adds the material.
    pub(super) fn load(&self, soup: &mut TriangleSoup, decoder: &mut Decoder<'_>) -> (Material, UvTransform) {
        let channel = |number: f64| (number.clamp(0.0, 1.0) * 255.0).round() as u8;
        let [r, g, b] = self.diffuse.unwrap_or([1.0; 3]).map(channel);
        let mut material = Material {
            name: self.name.clone(),
            base_color: [r, g, b, self.opacity.map_or(u8::MAX, channel)],
            texture: None,
            alpha_cutoff: None,
        };
        if self.has_ambient_map && self.map.is_none() {
            soup.warnings.push(
                WarningKind::Material,
                format!(
                    "the material \"{}\" has a map of its ambient color only (map_Ka, no map_Kd): it is not drawn",
                    self.name
                ),
            );
        }
        let Some(map) = self.map.as_ref().or(self.opacity_map.as_ref()) else {
            return (material, UvTransform::IDENTITY);
        };
        // Exporters write black if a texture replaces the color.
        if self.map.is_some() && [r, g, b] == [0; 3] {
            material.base_color[..3].fill(u8::MAX);
        }
        let opacity = self
            .opacity_map
            .as_ref()
            .filter(|opacity| opacity.file != map.file || self.map.is_none());
        let wrap = if map.clamps { Wrap::Clamp } else { Wrap::Repeat };
        let loaded = decoder.file(
            soup,
            Request {
                name: map.file.clone(),
                folder: self.folder.clone(),
                opacity: opacity.map(|opacity| opacity.file.clone()),
                wrap: [wrap; 2],
            },
        );
        if let Some(loaded) = loaded {
            material.texture = Some(loaded.index);
            if loaded.has_transparency {
                material.alpha_cutoff = Some(DEFAULT_ALPHA_CUTOFF);
                material.base_color[3] = u8::MAX;
            }
        }
        let transform = UvTransform {
            scale: map.scale,
            offset: map.offset,
        };
        (material, transform)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_with_options_and_blanks() {
        let map = |text: &str| map(text.as_bytes()).map(|map| (map.file, map.scale, map.offset, map.clamps));
        let plain = |file: &str| Some((file.to_owned(), Vec2::ONE, Vec2::ZERO, false));
        assert_eq!(map("my wood.png"), plain("my wood.png"));
        assert_eq!(map("\"my wood.png\""), plain("my wood.png"));
        assert_eq!(map("-bm 0.3 -imfchan l -mm 0 1 7.png"), plain("7.png"));
        assert_eq!(
            map("-blendu on -blendv off -texres 512 -type sphere a b.jpg"),
            plain("a b.jpg")
        );
        assert_eq!(
            map("-s 2 3 1 -o 0.5 -clamp on ..\\maps\\a.tga"),
            Some((
                "..\\maps\\a.tga".to_owned(),
                Vec2::new(2.0, 3.0),
                Vec2::new(0.5, 0.0),
                true
            ))
        );
        assert_eq!(map("-s 1 1 1"), None);
        assert_eq!(map(""), None);
    }

    #[test]
    fn libraries() {
        let text = b"Kd 9 9 9\n newmtl  dark wood \r\n\tKd 0.5 .25 1\nTr 1\nd 0.75\nmap_Kd a.png\nnewmtl gray\nKd 0.5\nnewmtl\nKd spectral a.rfl";
        let definitions = parse("stones\\gray.mtl", text);
        assert_eq!(definitions.len(), 3);
        assert_eq!(definitions[0].name, "dark wood");
        assert_eq!(definitions[0].folder, "stones/");
        assert_eq!(
            (definitions[0].diffuse, definitions[0].opacity),
            (Some([0.5, 0.25, 1.0]), Some(0.75))
        );
        assert_eq!(definitions[1].diffuse, Some([0.5; 3]));
        assert_eq!((definitions[2].name.as_str(), definitions[2].diffuse), ("", None));
    }
}
