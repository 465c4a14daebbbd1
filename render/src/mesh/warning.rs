//! What an importer ignored or mended: sentences by kind, bounded in number and length, without repetitions.

/// Most warnings that are kept; further ones are counted.
const MAX_WARNINGS: usize = 20;
/// Longest warning, in bytes: names in files have any length.
const MAX_WARNING_BYTES: usize = 300;

/// Kinds of warnings, by which they can be grouped and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum WarningKind {
    /// A material or its library is missing, and the faces are white.
    Material,
    /// A texture is missing, cannot be decoded, or has no coordinates.
    Texture,
    /// Texture coordinates, colors or normals that cannot be read.
    Attribute,
    /// A stated number of elements contradicts the length of the file.
    Count,
    /// Something behind the end is not read.
    Trailing,
    /// The file may be cut off.
    CutOff,
    /// An extension or a feature of the format is not drawn.
    Unsupported,
    /// Points of a cloud are dropped or thinned.
    Points,
    /// How many warnings are not listed.
    Further,
}

impl WarningKind {
    /// A short stable code for this kind, for statistics.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Material => "material",
            Self::Texture => "texture",
            Self::Attribute => "attribute",
            Self::Count => "count",
            Self::Trailing => "trailing",
            Self::CutOff => "cut_off",
            Self::Unsupported => "unsupported",
            Self::Points => "points",
            Self::Further => "further",
        }
    }
}

/// What [`crate::Mesh::warnings`] lists.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Warnings {
    sentences: Vec<String>,
    /// One per sentence.
    kinds: Vec<WarningKind>,
    num_further: usize,
}

impl Warnings {
    pub(crate) fn push(&mut self, kind: WarningKind, mut sentence: String) {
        if sentence.len() > MAX_WARNING_BYTES {
            sentence.truncate(sentence.floor_char_boundary(MAX_WARNING_BYTES));
            sentence.push_str("...");
        }
        if self.sentences.contains(&sentence) {
            return;
        }
        if self.sentences.len() < MAX_WARNINGS {
            self.sentences.push(sentence);
            self.kinds.push(kind);
        } else {
            self.num_further += 1;
        }
    }

    /// Ends the list by the number of those that it does not hold.
    pub(crate) fn complete(mut self) -> Self {
        if self.num_further > 0 {
            self.sentences
                .push(format!("and {} further warnings", self.num_further));
            self.kinds.push(WarningKind::Further);
        }
        self.num_further = 0;
        self
    }

    pub(crate) fn sentences(&self) -> &[String] {
        &self.sentences
    }

    pub(crate) fn kinds(&self) -> &[WarningKind] {
        &self.kinds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_bounded() {
        let mut warnings = Warnings::default();
        for number in 0..100 {
            warnings.push(WarningKind::Texture, format!("{number} {}", "ü".repeat(1000)));
            warnings.push(WarningKind::Count, "the same".to_owned());
        }
        let warnings = warnings.complete();
        let sentences = warnings.sentences();
        assert_eq!(sentences.len(), MAX_WARNINGS + 1);
        assert_eq!(sentences[MAX_WARNINGS], "and 81 further warnings");
        assert!(
            sentences
                .iter()
                .all(|sentence| sentence.len() <= MAX_WARNING_BYTES + 3),
            "{sentences:?}"
        );
        let num_of = |kind| warnings.kinds().iter().filter(|of| **of == kind).count();
        assert_eq!(
            [WarningKind::Texture, WarningKind::Count, WarningKind::Further].map(num_of),
            [MAX_WARNINGS - 1, 1, 1]
        );
    }
}
