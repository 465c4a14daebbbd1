//! [`Resolver`]: candidates of a layout, one after the other, become objects or skipped objects.
//!
//! Ids, splits, formats and path safety are handled here for all layouts.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::object_list::{ObjectList, ObjectListBuilder, SourceObject};
use super::{Candidate, ObjectReader, ReadError, SplitList, SplitRatios, format_of, mesh_file, slash_path};
use crate::manifest::{SkipReason, SkippedObject};
use crate::schema::{ObjectId, Split};

/// Takes the candidates of a source.
#[derive(Debug)]
pub(super) struct Resolver<'a> {
    reader: &'a dyn ObjectReader,
    splits: Option<SplitList>,
    objects: ObjectListBuilder,
    skipped: Vec<Rejected>,
    /// Names by which a list of splits may know the categories.
    categories: BTreeSet<String>,
}

/// What a source consists of.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) objects: ObjectList,
    /// Sorted by category, name and path; what a list of splits names and the source lacks comes last.
    pub(super) skipped: Vec<SkippedObject>,
    /// Sorted.
    pub(super) classes: Vec<String>,
}

/// A candidate that becomes no object.
#[derive(Debug)]
struct Rejected {
    category: String,
    name: String,
    split: Split,
    /// With forward slashes.
    path: String,
    reason: SkipReason,
    message: String,
}

impl<'a> Resolver<'a> {
    /// A list of splits overrides those of the candidates.
    pub(super) fn new(reader: &'a dyn ObjectReader, splits: Option<SplitList>) -> Self {
        Self {
            reader,
            splits,
            objects: ObjectListBuilder::default(),
            skipped: Vec::new(),
            categories: BTreeSet::new(),
        }
    }

    pub(super) fn add(&mut self, mut candidate: Candidate) {
        let in_list = self.splits.as_mut().map(|splits| splits.split_of(&candidate));
        if in_list.is_some() {
            let names = [Some(&candidate.category), candidate.category_alias.as_ref()];
            for name in names.into_iter().flatten() {
                if !self.categories.contains(name) {
                    self.categories.insert(name.clone());
                }
            }
        }
        let split = in_list.flatten().or(candidate.split).unwrap_or(Split::Train);
        let object = match (candidate.skip.take(), in_list) {
            (Some(skip), _) => Err(skip),
            (None, Some(None)) => Err((
                SkipReason::NotInSplits,
                "the list of splits does not name it".to_owned(),
            )),
            (None, _) => self.object(&candidate, split),
        };
        let added = object.and_then(|object| {
            let added = self.objects.add(&object);
            added.map_err(|message| (SkipReason::InvalidId, message))
        });
        if let Err((reason, message)) = added {
            self.skipped.push(Rejected {
                path: slash_path(&candidate.path),
                category: candidate.category,
                name: candidate.name,
                split,
                reason,
                message,
            });
        }
    }

    fn object(&self, candidate: &Candidate, split: Split) -> Result<SourceObject, (SkipReason, String)> {
        let Some(format) = format_of(&candidate.path) else {
            let extension = mesh_file::extension_of(&candidate.path);
            return Err((
                SkipReason::UnsupportedFormat,
                format!("meshes of format \"{extension}\" can't be read"),
            ));
        };
        let id = ObjectId::try_new(&candidate.category, &candidate.name)
            .map_err(|e| (SkipReason::InvalidId, e.to_string()))?;
        let (bytes, changed) = self.reader.state(&candidate.path).map_err(|error| match error {
            ReadError::Outside => (
                SkipReason::OutsideSource,
                "a link leads out of the source's folder".to_owned(),
            ),
            ReadError::Io(e) if e.kind() == io::ErrorKind::NotFound => {
                (SkipReason::Missing, "there is no such file".to_owned())
            }
            ReadError::Io(e) => (SkipReason::Unreadable, e.to_string()),
        })?;
        Ok(SourceObject {
            id,
            split,
            path: candidate.path.clone(),
            format,
            bytes,
            relocated_to: None,
            changed,
        })
    }

    /// Of objects with the same id the one with the smallest path stays. `split_ratios` override all splits.
    pub(super) fn finish(self, split_ratios: Option<&SplitRatios>) -> Resolved {
        let Self {
            splits,
            mut objects,
            skipped: mut rejected,
            categories,
            ..
        } = self;
        rejected.extend(
            objects
                .take_duplicates()
                .into_iter()
                .map(|(object, other)| Rejected {
                    category: object.id.category().to_owned(),
                    name: object.id.name().to_owned(),
                    split: object.split,
                    path: slash_path(&object.path),
                    reason: SkipReason::DuplicateId,
                    message: format!("{} has this id", slash_path(&other)),
                }),
        );
        rejected.sort_by(|a, b| {
            let order = (&a.category, &a.name).cmp(&(&b.category, &b.name));
            order.then_with(|| Path::new(&a.path).cmp(Path::new(&b.path)))
        });
        let unused = splits.iter().flat_map(|splits| splits.unused(&categories));
        let unused = unused.map(|(id, split)| SkippedObject {
            id,
            split: Some(split),
            path: String::new(),
            reason: SkipReason::Missing,
            message: "the list of splits names it, but there is no such mesh".to_owned(),
            shard: None,
        });
        if let Some(split_ratios) = split_ratios {
            objects.assign_splits(split_ratios);
        }
        Resolved {
            classes: objects.categories().cloned().collect(),
            skipped: rejected
                .into_iter()
                .map(SkippedObject::from)
                .chain(unused)
                .collect(),
            objects: objects.sorted(),
        }
    }
}

impl From<Rejected> for SkippedObject {
    fn from(rejected: Rejected) -> Self {
        Self {
            id: format!("{}/{}", rejected.category, rejected.name),
            split: Some(rejected.split),
            path: rejected.path,
            reason: rejected.reason,
            message: rejected.message,
            shard: None,
        }
    }
}
