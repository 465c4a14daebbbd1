//! The header of a PLY: elements, their properties, and comments that name textures.

use super::{ImportError, error, text};

/// Most elements and properties of a header, against hostile files.
const MAX_ENTRIES: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Text,
    LittleEndian,
    BigEndian,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    F32,
    F64,
}

impl Scalar {
    fn from_name(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"char" | b"int8" => Self::I8,
            b"uchar" | b"uint8" => Self::U8,
            b"short" | b"int16" => Self::I16,
            b"ushort" | b"uint16" => Self::U16,
            b"int" | b"int32" => Self::I32,
            b"uint" | b"uint32" => Self::U32,
            b"float" | b"float32" => Self::F32,
            b"double" | b"float64" => Self::F64,
            _ => return None,
        })
    }

    pub(super) fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// Value of full brightness if a property of this type is a color; 1 for floating-point numbers.
    pub(super) fn brightest(self) -> f64 {
        match self {
            Self::I16 | Self::U16 => 65535.0,
            Self::F32 | Self::F64 => 1.0,
            _ => 255.0,
        }
    }
}

#[derive(Debug)]
pub(super) struct Property {
    pub(super) name: String,
    pub(super) item: Scalar,
    /// Type of the length, if it is a list.
    pub(super) list_len: Option<Scalar>,
}

impl Property {
    /// Fewest bytes that it takes in a binary file.
    fn min_size(&self) -> usize {
        self.list_len.unwrap_or(self.item).size()
    }
}

#[derive(Debug)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) count: u64,
    pub(super) properties: Vec<Property>,
}

#[derive(Debug)]
pub(super) struct Header {
    pub(super) encoding: Encoding,
    pub(super) elements: Vec<Element>,
    pub(super) textures: Vec<String>,
    pub(super) num_lines: usize,
    pub(super) len: usize,
}

impl Header {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ImportError> {
        let mut header = Self {
            encoding: Encoding::Text,
            elements: Vec::new(),
            textures: Vec::new(),
            num_lines: 0,
            len: 0,
        };
        let mut has_format = false;
        let mut num_entries = 0;
        loop {
            let rest = &bytes[header.len..];
            let Some(line_len) = rest.iter().position(|&byte| byte == b'\n') else {
                return Err(error(if bytes.is_empty() {
                    "the file is empty"
                } else {
                    "its header has no end"
                }));
            };
            let line = rest[..line_len].trim_ascii();
            header.len += line_len + 1;
            header.num_lines += 1;
            if header.num_lines == 1 {
                if line != b"ply" {
                    return Err(error("a PLY begins with the word ply"));
                }
                continue;
            }
            let mut words = text::words(line);
            match words.next() {
                Some(b"format") => {
                    header.encoding = match words.next() {
                        Some(b"ascii") => Encoding::Text,
                        Some(b"binary_little_endian") => Encoding::LittleEndian,
                        Some(b"binary_big_endian") => Encoding::BigEndian,
                        _ => return Err(error("its format is neither ascii nor binary")),
                    };
                    has_format = true;
                }
                Some(b"comment") => {
                    let comment = line["comment".len()..].trim_ascii();
                    if let Some((word, name)) = comment.split_at_checked("texturefile".len())
                        && word.eq_ignore_ascii_case(b"texturefile")
                        && header.textures.len() < MAX_ENTRIES
                    {
                        header.textures.push(text::name(name));
                    }
                }
                Some(b"element") => {
                    let (name, count) = (words.next(), words.next());
                    let count = count.and_then(super::number::parse_i64);
                    let (Some(name), Some(count @ 0..)) = (name, count) else {
                        return Err(error("an element needs a name and a count"));
                    };
                    header.elements.push(Element {
                        name: text::string(name),
                        count: count.unsigned_abs(),
                        properties: Vec::new(),
                    });
                    num_entries += 1;
                }
                Some(b"property") => {
                    let property =
                        property(words).ok_or_else(|| error("a property needs a type and a name"))?;
                    let element = header.elements.last_mut();
                    element
                        .ok_or_else(|| error("a property comes before any element"))?
                        .properties
                        .push(property);
                    num_entries += 1;
                }
                Some(b"end_header") => break,
                _ => {}
            }
            if num_entries > MAX_ENTRIES {
                return Err(error("its header has thousands of properties"));
            }
        }
        if !has_format {
            return Err(error("its header names no format"));
        }
        header.check_counts(bytes.len() - header.len)?;
        Ok(header)
    }

    /// Can `body_len` bytes hold the declared counts?
    fn check_counts(&self, body_len: usize) -> Result<(), ImportError> {
        let mut claimed = 0_u64;
        for element in &self.elements {
            let min_size: usize = match self.encoding {
                // A digit and a space per property; the last line may end without.
                Encoding::Text => 2 * element.properties.len(),
                _ => element.properties.iter().map(Property::min_size).sum(),
            };
            claimed = claimed.saturating_add(element.count.saturating_mul(min_size as u64));
        }
        if claimed > body_len as u64 + 1 {
            return Err(error("its counts are larger than the file"));
        }
        Ok(())
    }
}

fn property<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<Property> {
    let kind = words.next()?;
    let (list_len, item) = if kind == b"list" {
        (Some(Scalar::from_name(words.next()?)?), words.next()?)
    } else {
        (None, kind)
    };
    Some(Property {
        item: Scalar::from_name(item)?,
        list_len,
        name: text::string(words.next()?),
    })
}
