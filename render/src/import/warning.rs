//! Warnings of an importer, bounded in number and length, without repetitions.

/// Most warnings that are kept; further ones are counted.
const MAX_WARNINGS: usize = 20;
/// Longest warning, in bytes: names in files have any length.
const MAX_WARNING_BYTES: usize = 300;

/// Lines for [`crate::Mesh::warnings`].
#[derive(Debug, Default)]
pub(super) struct Warnings {
    sentences: Vec<String>,
    num_further: usize,
}

impl Warnings {
    pub(super) fn push(&mut self, mut sentence: String) {
        if sentence.len() > MAX_WARNING_BYTES {
            sentence.truncate(sentence.floor_char_boundary(MAX_WARNING_BYTES));
            sentence.push_str("...");
        }
        if self.sentences.contains(&sentence) {
            return;
        }
        if self.sentences.len() < MAX_WARNINGS {
            self.sentences.push(sentence);
        } else {
            self.num_further += 1;
        }
    }

    pub(super) fn into_sentences(mut self) -> Vec<String> {
        if self.num_further > 0 {
            self.sentences
                .push(format!("and {} further warnings", self.num_further));
        }
        self.sentences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_bounded() {
        let mut warnings = Warnings::default();
        for number in 0..100 {
            warnings.push(format!("{number} {}", "ü".repeat(1000)));
            warnings.push("the same".to_owned());
        }
        let sentences = warnings.into_sentences();
        assert_eq!(sentences.len(), MAX_WARNINGS + 1);
        assert_eq!(sentences[MAX_WARNINGS], "and 81 further warnings");
        assert!(
            sentences
                .iter()
                .all(|sentence| sentence.len() <= MAX_WARNING_BYTES + 3),
            "{sentences:?}"
        );
    }
}
