//! [`Columns`]: which sets of columns the rows of a dataset have.

use serde::{Deserialize, Serialize};
use strum::VariantArray as _;

use crate::error::NameError;

/// Columns that a dataset has all of or none of. Named by manifests and shards, so that another program knows what to
/// expect before it opens a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "kebab-case")]
#[non_exhaustive]
pub enum ColumnSet {
    /// Id, class, points, and what they were made from.
    Points,
    /// Unit normals of the points.
    Normals,
    /// Part labels of the points; null for objects without parts.
    Parts,
    /// Images with masks and matrices.
    Views,
    /// Normals and depth of each pixel, enough to relight a white object.
    Gbuffer,
    /// Unlit color of each pixel.
    GbufferAlbedo,
    /// Statistics and issues of the mesh.
    Mesh,
}

impl ColumnSet {
    const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// The sets that this one says nothing without.
    const fn required(self) -> Columns {
        match self {
            Self::Points => Columns::IMAGES,
            Self::Normals | Self::Parts | Self::Views | Self::Mesh => Columns::POINTS,
            Self::Gbuffer => Columns::POINTS.with(Self::Views),
            Self::GbufferAlbedo => Columns::POINTS.with(Self::Gbuffer),
        }
    }
}

/// Sets of columns that go together: those of rows, which always have points, or the images of an image set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ColumnNames", into = "ColumnNames")]
pub struct Columns(u8);

impl Columns {
    /// An image set: ids and images only.
    pub const IMAGES: Self = Self(0);
    /// Points alone.
    pub const POINTS: Self = Self(ColumnSet::Points.bit());
    /// What a build stores unless told otherwise.
    pub const DEFAULT: Self = Self::POINTS
        .with(ColumnSet::Normals)
        .with(ColumnSet::Parts)
        .with(ColumnSet::Views)
        .with(ColumnSet::Mesh);

    /// These columns with those of `set`, and of all that it requires.
    #[must_use]
    pub const fn with(self, set: ColumnSet) -> Self {
        Self(self.0 | set.bit() | set.required().0)
    }

    /// These columns without those of `set`, and of all that requires it.
    #[must_use]
    pub const fn without(self, set: ColumnSet) -> Self {
        let mut left = self.0 & !set.bit();
        let mut idx = 0;
        while idx < ColumnSet::VARIANTS.len() {
            let other = ColumnSet::VARIANTS[idx];
            if other.required().has(set) {
                left &= !other.bit();
            }
            idx += 1;
        }
        Self(left)
    }

    /// Whether the columns of `set` are there.
    #[must_use]
    pub const fn has(self, set: ColumnSet) -> bool {
        self.0 & set.bit() != 0
    }

    /// Whether these are the columns of an image set, which has no rows of its own.
    #[must_use]
    pub const fn is_image_set(self) -> bool {
        self.0 == Self::IMAGES.0
    }

    /// The sets, in the order of [`ColumnSet`].
    pub fn sets(self) -> impl Iterator<Item = ColumnSet> {
        let sets = ColumnSet::VARIANTS.iter().copied();
        sets.filter(move |&set| self.has(set))
    }
}

impl Default for Columns {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Columns in JSON: since version 4 a list of sets, before it one name for all of them.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ColumnNames {
    Sets(Vec<String>),
    Version3(String),
}

/// The one name in a list of an image set.
const IMAGES: &str = "images";

impl From<Columns> for ColumnNames {
    fn from(columns: Columns) -> Self {
        Self::Sets(if columns.is_image_set() {
            vec![IMAGES.to_owned()]
        } else {
            columns.sets().map(|set| set.to_string()).collect()
        })
    }
}

impl TryFrom<ColumnNames> for Columns {
    type Error = NameError;

    fn try_from(names: ColumnNames) -> Result<Self, NameError> {
        match names {
            ColumnNames::Sets(names) => Self::of_sets(&names),
            ColumnNames::Version3(name) => match name.as_str() {
                "plain" => Ok(Self::DEFAULT),
                "gbuffer" => Ok(Self::DEFAULT.with(ColumnSet::Gbuffer)),
                "gbuffer-with-albedo" => Ok(Self::DEFAULT.with(ColumnSet::GbufferAlbedo)),
                IMAGES => Ok(Self::IMAGES),
                _ => Err(NameError::UnknownColumns { names: name }),
            },
        }
    }
}

impl Columns {
    /// Columns that a manifest declares; `None` where they are no names, which its own parser reports.
    pub(crate) fn from_json(declared: &serde_json::Value) -> Option<Result<Self, NameError>> {
        let names = ColumnNames::deserialize(declared).ok()?;
        Some(names.try_into())
    }

    fn of_sets(names: &[String]) -> Result<Self, NameError> {
        if names == [IMAGES] {
            return Ok(Self::IMAGES);
        }
        let set_of = |name: &String| ColumnSet::VARIANTS.iter().find(|&&set| name == <&str>::from(set));
        let unknown: Vec<&str> = names
            .iter()
            .filter(|name| set_of(name).is_none())
            .map(String::as_str)
            .collect();
        if !unknown.is_empty() {
            return Err(NameError::UnknownColumns {
                names: unknown.join(", "),
            });
        }
        let sets = names.iter().filter_map(set_of);
        let declared = sets.clone().fold(0, |bits, set| bits | set.bit());
        let complete = sets.fold(Self::POINTS, |columns, &set| columns.with(set));
        if declared == complete.0 {
            return Ok(complete);
        }
        let missing = complete.sets().filter(|set| declared & set.bit() == 0);
        let missing: Vec<&str> = missing.map(Into::into).collect();
        Err(NameError::MissingColumns {
            names: names.join(", "),
            missing: missing.join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn parse(json: &str) -> Result<Columns, String> {
        serde_json::from_str(json).map_err(|e: serde_json::Error| e.to_string())
    }

    #[test]
    fn columns_are_a_list_of_sets_in_json() {
        let all = Columns::DEFAULT.with(ColumnSet::GbufferAlbedo);
        let json = serde_json::to_string(&all).unwrap();
        assert_eq!(
            json,
            r#"["points","normals","parts","views","gbuffer","gbuffer-albedo","mesh"]"#
        );
        for columns in [Columns::IMAGES, Columns::POINTS, Columns::DEFAULT, all] {
            assert_eq!(parse(&serde_json::to_string(&columns).unwrap()), Ok(columns));
        }
    }

    #[test]
    fn names_of_version_3_are_read() {
        let gbuffer = Columns::DEFAULT.with(ColumnSet::Gbuffer);
        assert_eq!(parse("\"plain\""), Ok(Columns::DEFAULT));
        assert_eq!(parse("\"gbuffer\""), Ok(gbuffer));
        assert_eq!(
            parse("\"gbuffer-with-albedo\""),
            Ok(gbuffer.with(ColumnSet::GbufferAlbedo))
        );
        assert_eq!(parse("\"images\""), Ok(Columns::IMAGES));
    }

    #[test]
    fn a_set_comes_and_goes_with_what_it_needs() {
        let columns = Columns::POINTS.with(ColumnSet::GbufferAlbedo);
        assert!(columns.has(ColumnSet::Views) && columns.has(ColumnSet::Gbuffer));
        assert_eq!(columns.without(ColumnSet::Views), Columns::POINTS);
        assert_eq!(columns.without(ColumnSet::Points), Columns::IMAGES);
        let error = parse(r#"["points","gbuffer"]"#).unwrap_err();
        assert!(error.contains("views"), "{error}");
        let error = parse(r#"["normals"]"#).unwrap_err();
        assert!(error.contains("points"), "{error}");
    }

    #[test]
    fn sets_of_a_later_version_are_named() {
        for name in ["boxes", "point-labels", "varying-points", "holograms"] {
            let error = parse(&format!("[\"points\",\"{name}\"]")).unwrap_err();
            assert!(error.contains(name) && error.contains("newer version"), "{error}");
        }
    }
}
