//! The header of a PLY: elements, their properties, and comments that name textures.

use super::{ImportError, error, text};

/// Count of an element that has as many rows as there are.
const OPEN: u64 = u64::MAX;

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
    I64,
    U64,
    F32,
    F64,
}

impl Scalar {
    fn from_name(name: &[u8]) -> Option<Self> {
        Some(match name.strip_suffix(b"_t").unwrap_or(name) {
            b"char" | b"int8" => Self::I8,
            b"uchar" | b"uint8" => Self::U8,
            b"short" | b"int16" => Self::I16,
            b"ushort" | b"uint16" => Self::U16,
            b"int" | b"int32" => Self::I32,
            b"uint" | b"uint32" => Self::U32,
            b"int64" | b"long" => Self::I64,
            b"uint64" | b"ulong" => Self::U64,
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
            Self::I64 | Self::U64 | Self::F64 => 8,
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

#[derive(Debug, Clone)]
pub(super) struct Property {
    pub(super) name: String,
    pub(super) item: Scalar,
    /// Type of the length, if it is a list.
    pub(super) list_len: Option<Scalar>,
}

impl Property {
    /// Does a face's list of this name hold its vertices?
    fn names_vertices(&self) -> bool {
        let name = self.name.to_ascii_lowercase().replace('_', "");
        let is_known = [
            "vertexindices",
            "vertexindex",
            "vertexindexes",
            "vertexids",
            "vertices",
        ]
        .contains(&name.as_str());
        self.list_len.is_some() && is_known
    }

    /// Fewest bytes that it takes in a binary file.
    fn min_size(&self) -> usize {
        self.list_len.unwrap_or(self.item).size()
    }
}

#[derive(Debug, Clone)]
pub(super) struct Element {
    pub(super) name: String,
    /// Number of rows, or [`OPEN`].
    pub(super) count: u64,
    /// Does the count follow from the length of the file, instead of from its header?
    pub(super) is_recounted: bool,
    pub(super) properties: Vec<Property>,
}

impl Element {
    /// May it end anywhere?
    pub(super) fn is_open(&self) -> bool {
        self.count == OPEN
    }

    /// The property of a face or a strip that lists its vertices: the one of a known name, or the only list of integers.
    pub(super) fn vertex_list(&self) -> Option<usize> {
        let is_list = |property: &Property| {
            property.list_len.is_some() && !matches!(property.item, Scalar::F32 | Scalar::F64)
        };
        let mut lists = (0..)
            .zip(&self.properties)
            .filter(|(_, property)| is_list(property));
        let named = self.properties.iter().position(Property::names_vertices);
        named.or_else(|| match (lists.next(), lists.next()) {
            (Some((only, _)), None) => Some(only),
            _ => None,
        })
    }
}

#[derive(Debug, Clone)]
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
        header.len = bytes.len() - bytes.trim_ascii_start().len();
        let line_end = line_end(bytes.trim_ascii_start());
        loop {
            let rest = &bytes[header.len..];
            let Some(line_len) = rest.iter().position(|&byte| byte == line_end) else {
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
                if !line.eq_ignore_ascii_case(b"ply") {
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
                        is_recounted: false,
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
        Ok(header)
    }

    /// Can `body_len` bytes hold the declared counts? That of the last element may be mended by the length.
    pub(super) fn check_counts(&self, body_len: usize) -> Result<(), ImportError> {
        let mut claimed = 0_u64;
        let [elements @ .., _] = self.elements.as_slice() else {
            return Ok(());
        };
        for element in elements {
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

    /// Headers with one other count: that which makes the rows as many as there are lines. From the last element on,
    /// which is the likeliest to be cut off or appended to. None of a header whose counts are beyond any such text.
    pub(super) fn recounted_by_lines(&self, num_lines: u64, max_count: u64) -> impl Iterator<Item = Self> {
        let has_rows = |element: &&Element| !element.properties.is_empty();
        let elements = self.elements.iter().filter(has_rows);
        let num_rows = elements.fold(0_u64, |sum, element| sum.saturating_add(element.count));
        let is_sane = self.elements.iter().all(|element| element.count <= max_count);
        let elements = if is_sane { 0..self.elements.len() } else { 0..0 };
        elements.rev().filter_map(move |index| {
            let of_others = num_rows.checked_sub(self.elements[index].count)?;
            Some(self.recounted(index, num_lines.checked_sub(of_others)?))
        })
    }

    /// The header with as many rows of the last element as there are.
    pub(super) fn recounted_by_length(&self) -> Option<Self> {
        let last = self.elements.len().checked_sub(1)?;
        Some(self.recounted(last, OPEN))
    }

    fn recounted(&self, element: usize, count: u64) -> Self {
        let mut header = self.clone();
        header.elements[element].count = count;
        for element in &mut header.elements {
            element.is_recounted = true;
        }
        header
    }
}

/// What ends the lines of a header: a carriage return alone in old files, or else a line feed.
fn line_end(header: &[u8]) -> u8 {
    match header.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        Some(end) if header[end] == b'\r' && header.get(end + 1) != Some(&b'\n') => b'\r',
        _ => b'\n',
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
