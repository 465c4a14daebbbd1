//! What was published: numbers of objects, by which a copy is recognized. They are those that the sets' papers and the code
//! around them name.

use std::collections::BTreeMap;

use super::{ImportSet, fewshot};
use crate::schema::Split;

/// A version of a set as it was published.
#[derive(Debug)]
pub(super) struct Version {
    set: ImportSet,
    /// Variants of a set that has them, as `--variant` calls them.
    variants: &'static [&'static str],
    name: &'static str,
    counts: &'static [(Split, usize)],
    num_classes: usize,
}

const fn version(
    set: ImportSet,
    variants: &'static [&'static str],
    name: &'static str,
    counts: &'static [(Split, usize)],
    num_classes: usize,
) -> Version {
    Version {
        set,
        variants,
        name,
        counts,
        num_classes,
    }
}

use Split::{Test, Train, Val};

#[rustfmt::skip]
const VERSIONS: [Version; 10] = [
    version(ImportSet::Scanobjectnn, &["OBJ_BG"], "ScanObjectNN OBJ_BG", &[(Train, 2309), (Test, 581)], 15),
    version(ImportSet::Scanobjectnn, &["OBJ_ONLY"], "ScanObjectNN OBJ_ONLY", &[(Train, 2309), (Test, 581)], 15),
    version(ImportSet::Scanobjectnn, &["PB_T50_RS"], "ScanObjectNN PB_T50_RS", &[(Train, 11_416), (Test, 2882)], 15),
    version(ImportSet::Modelnet40, &["txt", "dat"], "ModelNet40", &[(Train, 9843), (Test, 2468)], 40),
    version(ImportSet::Modelnet40, &["h5"], "ModelNet40, ply_hdf5_2048", &[(Train, 9840), (Test, 2468)], 40),
    version(ImportSet::Modelnet40, &["txt10", "dat10"], "ModelNet10", &[(Train, 3991), (Test, 908)], 10),
    version(ImportSet::Shapenetpart, &["txt", "h5"], "ShapeNetPart", &[(Train, 12_137), (Val, 1870), (Test, 2874)], 16),
    version(ImportSet::Shapenet55, &["ShapeNet-55"], "ShapeNet-55", &[(Train, 41_952), (Test, 10_518)], 55),
    version(ImportSet::Shapenet55, &["ShapeNet-34"], "ShapeNet-34", &[(Train, 46_765), (Test, 3400)], 34),
    version(ImportSet::Shapenet55, &["ShapeNet-Unseen21"], "ShapeNet-Unseen21", &[(Test, 2305)], 21),
];

/// What a copy turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Recognition {
    /// Name of the version; `None` if no published one has these numbers, or none is known.
    pub(super) version: Option<&'static str>,
    /// How it differs from the version that it is nearest to.
    pub(super) difference: Option<String>,
}

/// Compares the objects of a copy with what was published.
pub(super) fn recognize(
    set: ImportSet,
    variant: &str,
    counts: &BTreeMap<Split, usize>,
    num_classes: usize,
) -> Recognition {
    let candidates = || {
        VERSIONS
            .iter()
            .filter(|version| version.set == set && version.variants.contains(&variant))
    };
    if let Some(version) = candidates().find(|version| version.has(counts, num_classes)) {
        return Recognition {
            version: Some(version.name),
            difference: None,
        };
    }
    if let (ImportSet::Fewshot, Some(published)) = (set, fewshot::published_counts(variant)) {
        let count = |split| counts.get(&split).copied().unwrap_or_default();
        let found = [num_classes, count(Train), count(Test)];
        let describe = |[classes, train, test]: [usize; 3]| {
            format!("{train} training and {test} test objects of {classes} classes")
        };
        return Recognition {
            version: None,
            difference: (found != published).then(|| {
                format!(
                    "{} instead of {} ({variant})",
                    describe(found),
                    describe(published)
                )
            }),
        };
    }
    let found: usize = counts.values().sum();
    let nearest = candidates().min_by_key(|version| version.num_objects().abs_diff(found));
    Recognition {
        version: None,
        difference: nearest.map(|version| version.difference(counts, num_classes)),
    }
}

impl Version {
    fn num_objects(&self) -> usize {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    fn has(&self, counts: &BTreeMap<Split, usize>, num_classes: usize) -> bool {
        self.counts
            .iter()
            .copied()
            .eq(counts.iter().map(|(&split, &count)| (split, count)))
            && num_classes == self.num_classes
    }

    /// `2300 of 2309 train objects, 581 of 581 test objects, as ScanObjectNN OBJ_BG was published`
    fn difference(&self, counts: &BTreeMap<Split, usize>, num_classes: usize) -> String {
        let mut differences: Vec<String> = Vec::new();
        for split in Split::ALL {
            let found = counts.get(&split).copied().unwrap_or_default();
            let published = self
                .counts
                .iter()
                .find(|(other, _)| *other == split)
                .map_or(0, |(_, count)| *count);
            if found != published {
                differences.push(format!(
                    "{found} {split} objects where {published} were published"
                ));
            }
        }
        if num_classes != self.num_classes {
            differences.push(format!("{num_classes} of {} classes", self.num_classes));
        }
        format!("{} ({})", differences.join(", "), self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart_by_their_numbers() {
        let recognize = |variant, counts: &[(Split, usize)], num_classes| {
            recognize(
                ImportSet::Modelnet40,
                variant,
                &counts.iter().copied().collect(),
                num_classes,
            )
        };
        let version = |variant, counts, num_classes| recognize(variant, counts, num_classes).version;
        assert_eq!(
            version("txt", &[(Train, 9843), (Test, 2468)], 40),
            Some("ModelNet40")
        );
        assert_eq!(
            version("dat10", &[(Train, 3991), (Test, 908)], 10),
            Some("ModelNet10")
        );
        assert_eq!(
            version("h5", &[(Train, 9840), (Test, 2468)], 40),
            Some("ModelNet40, ply_hdf5_2048")
        );
        assert_eq!(
            version("h5", &[(Train, 9843), (Test, 2468)], 40),
            None,
            "three more than its h5 files have"
        );
        let short = recognize("txt", &[(Train, 9843), (Test, 2460)], 40);
        assert_eq!(
            short.difference.as_deref(),
            Some("2460 test objects where 2468 were published (ModelNet40)")
        );
        let small = recognize("txt10", &[(Train, 3000), (Test, 908)], 10);
        assert_eq!(
            small.difference.as_deref(),
            Some("3000 train objects where 3991 were published (ModelNet10)")
        );
    }

    #[test]
    fn a_variant_without_known_numbers_is_not_called_incomplete() {
        let counts = [(Train, 7), (Test, 3)].into();
        let recognition = recognize(ImportSet::Scanobjectnn, "PB_T25", &counts, 15);
        assert_eq!(
            recognition,
            Recognition {
                version: None,
                difference: None
            }
        );
    }
}
