//! [`ShardObjects`]: the objects of finished shards, wherever they are listed: in the manifest, in [lists](super::Lists), or, of a
//! large data set that is still built, in its journal. Only what is asked for is read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use super::list_file::{ListWriter, SKIPPED_FILE_NAME, cut, damaged, objects_from_batch, skipped_from_batch};
use super::{JournalEntry, ListFile, Lists, Manifest, ObjectEntry, ShardEntry, SkipReason, SkippedObject};
use crate::error::{DatasetError, ManifestError, Result};
use crate::parquet_file::ParquetFile;
use crate::pipeline::in_order_within;
use crate::store::NUM_REQUESTS;

/// Lists whose footers are kept.
const MAX_OPEN_LISTS: usize = 4;
/// Skipped objects that are decoded at a time.
const SKIPPED_AT_A_TIME: usize = 1 << 13;

/// The objects of finished shards. Threads can share one.
///
/// Memory: two numbers a shard, and a few footers. Shards are named by their plan index.
#[derive(Debug)]
pub struct ShardObjects<'a> {
    /// By plan index.
    shards: BTreeMap<usize, (usize, &'a ShardEntry)>,
    origin: Origin<'a>,
}

#[derive(Debug)]
enum Origin<'a> {
    /// The manifest, with the skipped objects of each shard.
    Manifest(BTreeMap<usize, Vec<&'a SkippedObject>>),
    Lists(OpenLists<'a>),
    Journal {
        lists: &'a Lists,
        plan_sha256: String,
    },
}

#[derive(Debug)]
struct OpenLists<'a> {
    lists: &'a Lists,
    /// Place in the manifest of the first shard of each list.
    first_shards: Vec<usize>,
    /// Number of objects before each shard, all lists together, and before the end.
    objects_before: Vec<usize>,
    skipped_before: Vec<usize>,
    /// The lists that were used last.
    open: Mutex<Vec<(String, Arc<ParquetFile>)>>,
}

impl Manifest {
    /// The objects of the shards.
    ///
    /// # Errors
    /// When a shard is not in the plan.
    pub fn objects(&self) -> Result<ShardObjects<'_>> {
        let planned = self.planned_shards();
        let plan_indices = self
            .plan_indices(&planned)
            .map_err(|detail| damaged(Path::new(super::MANIFEST_FILE_NAME), detail))?;
        Ok(self.objects_of(plan_indices.into_iter().zip(&self.shards)))
    }

    /// The objects of shards that were taken out of this manifest, with their plan indices, in order.
    pub(crate) fn objects_of<'a>(
        &'a self,
        shards: impl IntoIterator<Item = (usize, &'a ShardEntry)>,
    ) -> ShardObjects<'a> {
        let shards: BTreeMap<usize, (usize, &ShardEntry)> = shards
            .into_iter()
            .enumerate()
            .map(|(place, (plan_idx, entry))| (plan_idx, (place, entry)))
            .collect();
        let origin = match &self.lists {
            None => {
                let mut skipped: BTreeMap<usize, Vec<&SkippedObject>> = BTreeMap::new();
                for object in &self.skipped {
                    if let Some(shard) = object.shard {
                        skipped.entry(shard).or_default().push(object);
                    }
                }
                Origin::Manifest(skipped)
            }
            Some(lists) if lists.is_whole() => {
                let entries = || shards.values().map(|(_, entry)| *entry);
                let before = |of: fn(&ShardEntry) -> usize| {
                    let mut sum = 0;
                    let sums = entries().map(|entry| {
                        sum += of(entry);
                        sum
                    });
                    std::iter::once(0).chain(sums).collect::<Vec<usize>>()
                };
                let cuts = cut(entries());
                Origin::Lists(OpenLists {
                    lists,
                    first_shards: cuts.into_iter().map(|cut| cut.start).collect(),
                    objects_before: before(ShardEntry::num_objects),
                    skipped_before: before(ShardEntry::num_skipped),
                    open: Mutex::default(),
                })
            }
            Some(lists) => Origin::Journal {
                lists,
                plan_sha256: self.plan_sha256(),
            },
        };
        ShardObjects { shards, origin }
    }

    /// Number of skipped objects, by reason.
    #[must_use]
    pub fn skipped_by_reason(&self) -> BTreeMap<SkipReason, usize> {
        let mut counts = BTreeMap::new();
        for object in &self.skipped {
            *counts.entry(object.reason).or_default() += 1;
        }
        let left_out = self.lists.iter().map(|lists| &lists.num_left_out);
        let of_shards = self.shards.iter().map(|shard| &shard.num_skipped);
        for (&reason, num) in left_out.chain(of_shards).flatten() {
            *counts.entry(reason).or_default() += num;
        }
        counts
    }

    /// Calls `visit` for skipped objects, in the order of the manifest or the lists, until it breaks.
    ///
    /// # Errors
    /// When a list or the journal is damaged.
    pub fn visit_skipped(&self, visit: &mut dyn FnMut(&SkippedObject) -> ControlFlow<()>) -> Result<()> {
        let Some(lists) = &self.lists else {
            let _ = self.skipped.iter().try_for_each(visit);
            return Ok(());
        };
        let mut flow = ControlFlow::Continue(());
        for list in lists.left_out.iter().chain(&lists.skipped) {
            if flow.is_continue() {
                flow = visit_skipped_in(lists, list, visit)?;
            }
        }
        if lists.is_whole() || flow.is_break() {
            return Ok(());
        }
        let objects = self.objects()?;
        for (&plan_idx, (_, entry)) in &objects.shards {
            if entry.num_skipped() > 0
                && objects
                    .skipped_of(plan_idx)?
                    .iter()
                    .try_for_each(&mut *visit)
                    .is_break()
            {
                break;
            }
        }
        Ok(())
    }

    /// The first skipped objects, in the order of the manifest or the lists.
    ///
    /// # Errors
    /// As [`visit_skipped`](Self::visit_skipped).
    pub fn first_skipped(&self, max: usize) -> Result<Vec<SkippedObject>> {
        let mut first = Vec::new();
        self.visit_skipped(&mut |object| {
            if first.len() == max {
                return ControlFlow::Break(());
            }
            first.push(object.clone());
            ControlFlow::Continue(())
        })?;
        Ok(first)
    }

    /// What was left out before any mesh was read.
    ///
    /// # Errors
    /// When its list is damaged.
    pub(crate) fn left_out(&self) -> Result<Vec<SkippedObject>> {
        let mut left_out: Vec<SkippedObject> = Vec::new();
        match &self.lists {
            None => left_out.extend(
                self.skipped
                    .iter()
                    .filter(|object| object.shard.is_none())
                    .cloned(),
            ),
            Some(lists) => {
                if let Some(list) = &lists.left_out {
                    let _ = visit_skipped_in(lists, list, &mut |object| {
                        left_out.push(object.clone());
                        ControlFlow::Continue(())
                    })?;
                }
            }
        }
        Ok(left_out)
    }

    /// Writes the lists of a large data set whose shards are all there, from its journal: in parallel, a list in memory for
    /// each thread at most.
    pub(crate) fn write_lists(&mut self, dir: &Path) -> Result<()> {
        let (objects, skipped) = self.lists_of_journal(dir)?;
        let lists = self.lists.as_mut().expect("the data set is large");
        lists.objects = objects;
        lists.skipped = skipped;
        Ok(())
    }

    fn lists_of_journal(&self, dir: &Path) -> Result<(Vec<ListFile>, Option<ListFile>)> {
        let owner = self.lists.as_ref().map_or("", |lists| &lists.owner);
        let reader = self.objects()?;
        let plan_indices: Vec<usize> = reader.shards.keys().copied().collect();
        let cuts = cut(&self.shards);
        let write = |idx: usize| {
            let mut writer = ListWriter::of_objects(dir, owner, idx, cuts.len())?;
            let mut skipped = Vec::new();
            for place in cuts[idx].clone() {
                let JournalEntry {
                    entry, skipped: more, ..
                } = reader.journal_entry(plan_indices[place])?;
                writer.add_shard(place, &entry.objects)?;
                skipped.extend(more);
            }
            Ok((writer.finish()?, skipped))
        };
        let mut lists = Vec::with_capacity(cuts.len());
        let mut of_skipped: Option<ListWriter> = None;
        in_order_within(
            NUM_REQUESTS,
            NUM_REQUESTS,
            cuts.len(),
            &AtomicBool::new(false),
            write,
            &mut |_, (list, skipped)| {
                lists.push(list);
                if !skipped.is_empty() {
                    if of_skipped.is_none() {
                        of_skipped = Some(ListWriter::of_skipped(dir, SKIPPED_FILE_NAME, owner)?);
                    }
                    of_skipped
                        .as_mut()
                        .expect("it was just begun")
                        .add_skipped(&skipped)?;
                }
                Ok(())
            },
        )?;
        Ok((lists, of_skipped.map(ListWriter::finish).transpose()?))
    }
}

impl<'a> ShardObjects<'a> {
    /// Plan indices of the shards, ascending.
    pub fn shards(&self) -> impl Iterator<Item = usize> {
        self.shards.keys().copied()
    }

    /// The objects of a shard, skipped or not, in order; none in manifests of version 1.
    ///
    /// # Errors
    /// When the list or the journal entry of the shard is missing, damaged or of another data set.
    ///
    /// # Panics
    /// When it is not among the shards.
    pub fn of_shard(&self, shard: usize) -> Result<Cow<'a, [ObjectEntry]>> {
        let (place, entry) = self.shards[&shard];
        match &self.origin {
            Origin::Manifest(_) => Ok(Cow::Borrowed(&entry.objects)),
            Origin::Lists(lists) => lists.of_shard(place).map(Cow::Owned),
            Origin::Journal { .. } => Ok(Cow::Owned(self.journal_entry(shard)?.entry.objects)),
        }
    }

    /// The skipped objects of a shard.
    ///
    /// # Errors
    /// As [`of_shard`](Self::of_shard).
    ///
    /// # Panics
    /// When it is not among the shards.
    pub(crate) fn skipped_of(&self, shard: usize) -> Result<Vec<SkippedObject>> {
        let (place, entry) = self.shards[&shard];
        match &self.origin {
            Origin::Manifest(skipped) => {
                let of_shard = skipped.get(&shard).into_iter().flatten();
                Ok(of_shard.map(|&object| object.clone()).collect())
            }
            Origin::Lists(_) if entry.num_skipped() == 0 => Ok(Vec::new()),
            Origin::Lists(lists) => lists.skipped_of(place),
            Origin::Journal { .. } => Ok(self.journal_entry(shard)?.skipped),
        }
    }

    /// The entry of a shard with its objects.
    pub(crate) fn entry(&self, shard: usize) -> Result<ShardEntry> {
        let (_, entry) = self.shards[&shard];
        Ok(ShardEntry {
            objects: self.of_shard(shard)?.into_owned(),
            ..entry.clone()
        })
    }

    /// Calls `visit` for each object in order, with the entry of its shard. Lists are read once, in large pieces.
    ///
    /// # Errors
    /// As [`of_shard`](Self::of_shard), or of `visit`.
    pub fn visit(&self, visit: &mut dyn FnMut(&ShardEntry, &ObjectEntry) -> Result<()>) -> Result<()> {
        let Origin::Lists(lists) = &self.origin else {
            for (&shard, (_, entry)) in &self.shards {
                for object in &*self.of_shard(shard)? {
                    visit(entry, object)?;
                }
            }
            return Ok(());
        };
        let entries: Vec<&ShardEntry> = self.shards.values().map(|(_, entry)| *entry).collect();
        for list in &lists.lists.objects {
            let file = lists.open(list)?;
            let mut objects = Vec::new();
            file.read(std::slice::from_ref(&(0..list.rows)), |batch| {
                objects.clear();
                objects_from_batch(batch, &mut objects).map_err(|detail| lists.damaged(list, detail))?;
                for (place, object) in &objects {
                    let entry = entries
                        .get(*place)
                        .ok_or_else(|| lists.damaged(list, format!("there is no shard {place}")))?;
                    visit(entry, object)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// What the journal says of a shard of a large data set; checked against what was counted before.
    fn journal_entry(&self, shard: usize) -> Result<JournalEntry> {
        let (_, expected) = self.shards[&shard];
        let Origin::Journal { lists, plan_sha256 } = &self.origin else {
            unreachable!("only a build that goes on has a journal");
        };
        let path = lists.folder.join(JournalEntry::file_name(&expected.file));
        let damaged = |detail: &str| {
            DatasetError::Manifest(ManifestError::Invalid {
                detail: detail.to_owned(),
                path: path.clone(),
            })
        };
        let found = JournalEntry::read(&lists.folder, &expected.file)?;
        let found = found.ok_or_else(|| damaged("the journal entry of a shard is missing"))?;
        let head = ShardEntry {
            objects: Vec::new(),
            ..found.entry.clone()
        };
        let num_objects = found.entry.objects.len();
        let is_it = found.plan_sha256 == *plan_sha256
            && head == *expected
            && num_objects == expected.num_objects()
            && found.skipped.len() == expected.num_skipped();
        if is_it {
            Ok(found)
        } else {
            Err(damaged(
                "the journal entry of a shard has changed or does not add up",
            ))
        }
    }
}

impl OpenLists<'_> {
    /// A list of the data set, opened if it is not open.
    fn open(&self, list: &ListFile) -> Result<Arc<ParquetFile>> {
        let lock = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |(name, _): &&(String, Arc<ParquetFile>)| *name == list.file;
        if let Some((_, file)) = lock().iter().find(is_it) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(self.lists.open(list)?);
        let mut open = lock();
        if open.len() == MAX_OPEN_LISTS {
            open.remove(0);
        }
        open.push((list.file.clone(), Arc::clone(&file)));
        Ok(file)
    }

    fn damaged(&self, list: &ListFile, detail: String) -> DatasetError {
        damaged(&self.lists.folder.join(&list.file), detail)
    }

    fn of_shard(&self, place: usize) -> Result<Vec<ObjectEntry>> {
        let idx = self.first_shards.partition_point(|&first| first <= place) - 1;
        let list = &self.lists.objects[idx];
        let start = self.objects_before[self.first_shards[idx]];
        let rows = self.objects_before[place] - start..self.objects_before[place + 1] - start;
        let mut objects = Vec::new();
        self.open(list)?.read(std::slice::from_ref(&rows), |batch| {
            objects_from_batch(batch, &mut objects).map_err(|detail| self.damaged(list, detail))
        })?;
        if objects.len() != rows.len() || objects.iter().any(|(shard, _)| *shard != place) {
            return Err(self.damaged(list, "its rows are not those of its shards".to_owned()));
        }
        Ok(objects.into_iter().map(|(_, object)| object).collect())
    }

    fn skipped_of(&self, place: usize) -> Result<Vec<SkippedObject>> {
        let list = self.lists.skipped.as_ref().expect("the counts were checked");
        let rows = self.skipped_before[place]..self.skipped_before[place + 1];
        let mut objects = Vec::new();
        self.open(list)?.read(std::slice::from_ref(&rows), |batch| {
            skipped_from_batch(batch, &mut objects).map_err(|detail| self.damaged(list, detail))
        })?;
        Ok(objects)
    }
}

fn visit_skipped_in(
    lists: &Lists,
    list: &ListFile,
    visit: &mut dyn FnMut(&SkippedObject) -> ControlFlow<()>,
) -> Result<ControlFlow<()>> {
    let file = lists.open(list)?;
    let path = lists.folder.join(&list.file);
    let mut objects = Vec::new();
    for start in (0..list.rows).step_by(SKIPPED_AT_A_TIME) {
        let rows: Range<usize> = start..list.rows.min(start + SKIPPED_AT_A_TIME);
        objects.clear();
        file.read(std::slice::from_ref(&rows), |batch| {
            skipped_from_batch(batch, &mut objects).map_err(|detail| damaged(&path, detail))
        })?;
        if objects.iter().try_for_each(&mut *visit).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}
