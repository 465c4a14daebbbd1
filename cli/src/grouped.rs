//! Messages by kind: the first of each kind are shown, the others are counted.

use std::collections::BTreeMap;

/// Messages of a kind that are shown in full.
const NUM_SHOWN: usize = 3;
/// A kind is what stands before this many colons: names and paths come last.
const NUM_CLAUSES: usize = 2;

/// Counts messages by kind.
#[derive(Debug, Default)]
pub struct Grouped {
    num_of_kind: BTreeMap<String, usize>,
}

impl Grouped {
    /// Counts a message; is it among the first of its kind, which are shown?
    pub fn count(&mut self, kind: impl Into<String>) -> bool {
        let num = self.num_of_kind.entry(kind.into()).or_default();
        *num += 1;
        *num <= NUM_SHOWN
    }

    /// Kinds of which not all messages were shown, and how many of each were not.
    pub fn not_shown(&self) -> impl Iterator<Item = (&str, usize)> {
        let rest = |(kind, num)| (kind, usize::saturating_sub(num, NUM_SHOWN));
        let kinds = self.num_of_kind.iter().map(|(kind, num)| (kind.as_str(), *num));
        kinds.map(rest).filter(|(_, num)| *num > 0)
    }
}

/// The kind of a message: without quoted names, numbers, and the path at its end.
#[must_use]
pub fn kind_of(message: &str) -> String {
    let mut kind = String::new();
    for (part_idx, part) in message.split('"').enumerate() {
        if part_idx % 2 == 1 {
            kind.push_str("\"...\"");
        } else {
            kind.push_str(part);
        }
    }
    let clauses: Vec<&str> = kind.split(": ").take(NUM_CLAUSES).collect();
    let mut kind = String::new();
    for char in clauses.join(": ").chars() {
        match char {
            digit if digit.is_ascii_digit() => {
                if !kind.ends_with('N') {
                    kind.push('N');
                }
            }
            other => kind.push(other),
        }
    }
    kind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_differ_in_names_and_numbers_are_of_one_kind() {
        let left_out = |name: &str| {
            format!(
                "the texture \"{name}\" is left out: the mesh refers to a file that does not exist: {name}"
            )
        };
        assert_eq!(kind_of(&left_out("a.png")), kind_of(&left_out("b 2.png")));
        assert_eq!(kind_of("nothing is seen in view 4"), "nothing is seen in view N");
        assert_eq!(kind_of("12 points are dropped"), kind_of("7 points are dropped"));
        assert_ne!(
            kind_of("colors are left out: a"),
            kind_of("colors are left out: b")
        );
    }

    #[test]
    fn the_first_of_a_kind_are_shown_and_the_rest_is_counted() {
        let mut grouped = Grouped::default();
        let shown = (0..10).filter(|_| grouped.count("a")).count();
        assert!(grouped.count("b"), "another kind");
        assert_eq!(shown, NUM_SHOWN);
        assert_eq!(grouped.not_shown().collect::<Vec<_>>(), [("a", 7)]);
    }
}
