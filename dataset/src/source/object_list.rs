//! [`ObjectList`]: the objects of a source, ten million of them within a GiB.
//!
//! An object takes 32 bytes and the letters of its path; its name is mostly in the path. Objects are made of that when they
//! are asked for.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tap_render::import::MeshFormat;

use super::{SplitRatios, mesh_file};
use crate::schema::{ObjectId, Split};

/// A mesh to become a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceObject {
    /// Object id.
    pub id: ObjectId,
    /// Assigned split.
    pub split: Split,
    /// Mesh file, relative to the source folder.
    pub path: PathBuf,
    /// Mesh format, from the extension.
    pub format: MeshFormat,
    /// File length in bytes; `None` if unknown before reading.
    pub bytes: Option<u64>,
    /// Actual path in another copy of the meshes, if not `path`.
    pub(crate) relocated_to: Option<PathBuf>,
    /// When the mesh file last changed, before it was read; `None` if the source does not tell.
    pub(crate) changed: Option<SystemTime>,
}

impl SourceObject {
    /// File length for lists and manifests, where 0 stands for an unknown one.
    pub(crate) fn listed_bytes(&self) -> u64 {
        self.bytes.unwrap_or(0)
    }

    /// Path to read, relative to the source folder.
    pub(super) fn path_on_disk(&self) -> &Path {
        self.relocated_to.as_deref().unwrap_or(&self.path)
    }
}

/// Objects sorted by split and id.
#[derive(Debug, Clone, Default)]
pub struct ObjectList {
    entries: Vec<Entry>,
    /// Of each object its path, and its name if that is not the stem of the path; in the order in which they were added.
    text: String,
    /// In the order in which they were met.
    categories: Vec<String>,
    /// Paths in another copy of the meshes, by where the text of their objects begins.
    relocated: BTreeMap<u64, PathBuf>,
}

/// An object, whose letters are in the text.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Where its text begins.
    begin: u64,
    /// [`UNKNOWN_BYTES`] if unknown.
    bytes: u64,
    /// [`UNKNOWN_TIME`] if unknown.
    changed_ns: i64,
    category: u32,
    path_bytes: u16,
    /// 0 if the name is the stem of the path.
    name_bytes: u8,
    split: Split,
}

const UNKNOWN_BYTES: u64 = u64::MAX;
const UNKNOWN_TIME: i64 = i64::MIN;

impl ObjectList {
    /// Number of objects.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no object.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The object at this place.
    ///
    /// # Panics
    /// Beyond the end.
    #[must_use]
    pub fn get(&self, place: usize) -> SourceObject {
        let entry = &self.entries[place];
        let path = self.path(entry);
        SourceObject {
            id: self.id(entry),
            split: entry.split,
            path: PathBuf::from(path),
            format: self.format(entry),
            bytes: known_bytes(entry),
            relocated_to: self.relocated.get(&entry.begin).cloned(),
            changed: time(entry.changed_ns),
        }
    }

    /// All objects, in order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = SourceObject> {
        (0..self.len()).map(|place| self.get(place))
    }

    /// The object of a split with this id.
    pub(crate) fn find(&self, split: Split, id: &ObjectId) -> Option<SourceObject> {
        let order = |entry: &Entry| {
            let category = self.category(entry);
            let order = (entry.split.cmp(&split)).then_with(|| order_in_ids(category, id.category()));
            order.then_with(|| self.name(entry).cmp(id.name()))
        };
        self.entries
            .binary_search_by(order)
            .ok()
            .map(|place| self.get(place))
    }

    /// File length of the object at this place; `None` if unknown before reading.
    pub(super) fn bytes(&self, place: usize) -> Option<u64> {
        known_bytes(&self.entries[place])
    }

    /// The mesh formats of all objects, in order.
    pub(crate) fn formats(&self) -> impl Iterator<Item = MeshFormat> {
        self.entries.iter().map(|entry| self.format(entry))
    }

    /// File lengths for lists, where 0 stands for an unknown one.
    pub(crate) fn listed_bytes(&self) -> impl ExactSizeIterator<Item = u64> {
        self.entries.iter().map(|entry| known_bytes(entry).unwrap_or(0))
    }

    /// Number of objects of a split.
    pub(crate) fn num_of_split(&self, split: Split) -> usize {
        let up_to = |end: &dyn Fn(Split) -> bool| self.entries.partition_point(|entry| end(entry.split));
        up_to(&|found| found <= split) - up_to(&|found| found < split)
    }

    /// The objects at these places, which must ascend.
    pub(super) fn subset(&self, places: &[usize]) -> Self {
        let mut subset = ObjectListBuilder::default();
        for &place in places {
            subset.add(&self.get(place)).expect("it was added before");
        }
        subset.in_order()
    }

    fn path(&self, entry: &Entry) -> &str {
        &self.text[entry.begin as usize..][..usize::from(entry.path_bytes)]
    }

    fn format(&self, entry: &Entry) -> MeshFormat {
        mesh_file::format_of(Path::new(self.path(entry))).expect("a path of no format is not added")
    }

    fn name(&self, entry: &Entry) -> &str {
        if entry.name_bytes == 0 {
            return mesh_file::stem(Path::new(self.path(entry))).unwrap_or_default();
        }
        &self.text[entry.begin as usize + usize::from(entry.path_bytes)..][..usize::from(entry.name_bytes)]
    }

    fn category(&self, entry: &Entry) -> &str {
        &self.categories[entry.category as usize]
    }

    fn id(&self, entry: &Entry) -> ObjectId {
        let id = ObjectId::try_new(self.category(entry), self.name(entry));
        id.expect("it was an id when it was added")
    }
}

fn known_bytes(entry: &Entry) -> Option<u64> {
    (entry.bytes != UNKNOWN_BYTES).then_some(entry.bytes)
}

/// Order of two categories as ids have it, where a slash follows them.
fn order_in_ids(category: &str, other: &str) -> Ordering {
    let slash = Some(b'/');
    category.bytes().chain(slash).cmp(other.bytes().chain(slash))
}

/// Nanoseconds since 1970; times 292 years from it are those of the bound.
fn nanoseconds(time: SystemTime) -> i64 {
    let to_i64 = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => to_i64(after),
        Err(before) => -to_i64(before.duration()),
    }
}

fn time(nanoseconds: i64) -> Option<SystemTime> {
    let duration = Duration::from_nanos(nanoseconds.unsigned_abs());
    match nanoseconds {
        UNKNOWN_TIME => None,
        0.. => SystemTime::UNIX_EPOCH.checked_add(duration),
        _ => SystemTime::UNIX_EPOCH.checked_sub(duration),
    }
}

/// Adds objects to a list, in any order.
#[derive(Debug, Default)]
pub(super) struct ObjectListBuilder {
    list: ObjectList,
    category_idx: BTreeMap<String, u32>,
}

impl ObjectListBuilder {
    /// Adds an object.
    ///
    /// # Errors
    /// When its path is not UTF-8, or too long; there is nothing of it in the list then.
    pub(super) fn add(&mut self, object: &SourceObject) -> Result<(), String> {
        let SourceObject {
            id,
            split,
            path,
            format: _,
            bytes,
            relocated_to,
            changed,
        } = object;
        let text = path.to_str().ok_or("the path is not UTF-8")?;
        let path_bytes = u16::try_from(text.len());
        let path_bytes = path_bytes.map_err(|_| format!("the path has more than {} bytes", u16::MAX))?;
        let name = if mesh_file::stem(path) == Some(id.name()) {
            ""
        } else {
            id.name()
        };
        let begin = self.list.text.len() as u64;
        let category = self.category(id.category());
        self.list.text.push_str(text);
        self.list.text.push_str(name);
        if let Some(relocated_to) = relocated_to {
            self.list.relocated.insert(begin, relocated_to.clone());
        }
        self.list.entries.push(Entry {
            begin,
            bytes: bytes.unwrap_or(UNKNOWN_BYTES),
            changed_ns: changed.map_or(UNKNOWN_TIME, nanoseconds),
            category,
            path_bytes,
            name_bytes: u8::try_from(name.len()).expect("names of ids have at most 255 bytes"),
            split: *split,
        });
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Says where the mesh of the object that was added at this place lies in another copy of the meshes.
    pub(super) fn relocate(&mut self, place: usize, path: PathBuf) {
        self.list.relocated.insert(self.list.entries[place].begin, path);
    }

    fn category(&mut self, name: &str) -> u32 {
        if let Some(&idx) = self.category_idx.get(name) {
            return idx;
        }
        let idx = u32::try_from(self.list.categories.len()).expect("there are fewer categories");
        self.list.categories.push(name.to_owned());
        self.category_idx.insert(name.to_owned(), idx);
        idx
    }

    /// Category names, sorted.
    pub(super) fn categories(&self) -> impl Iterator<Item = &String> {
        self.category_idx.keys()
    }

    /// Takes out all objects with an id that another one with a smaller path has; with that path.
    pub(super) fn take_duplicates(&mut self) -> Vec<(SourceObject, PathBuf)> {
        self.sort_by(|_| 0, true);
        let list = &self.list;
        let is_same = |a: &Entry, b: &Entry| a.category == b.category && list.name(a) == list.name(b);
        let mut kept: Option<usize> = None;
        let mut duplicates = Vec::new();
        for (place, entry) in list.entries.iter().enumerate() {
            match kept {
                Some(first) if is_same(&list.entries[first], entry) => duplicates.push((place, first)),
                _ => kept = Some(place),
            }
        }
        let object = |&(place, first): &(usize, usize)| (list.get(place), list.get(first).path);
        let taken = duplicates.iter().map(object).collect();
        let (mut place, mut next) = (0, duplicates.into_iter().map(|(place, _)| place).peekable());
        self.list.entries.retain(|_| {
            place += 1;
            next.next_if_eq(&(place - 1)).is_none()
        });
        taken
    }

    /// Assigns a random split to each object.
    pub(super) fn assign_splits(&mut self, ratios: &SplitRatios) {
        self.sort_by(|_| 0, false);
        let mut entries = std::mem::take(&mut self.list.entries);
        for category in entries.chunk_by_mut(|a, b| a.category == b.category) {
            let splits = ratios.splits(category.len(), |place| self.list.id(&category[place]));
            for (entry, split) in category.iter_mut().zip(splits) {
                entry.split = split;
            }
        }
        self.list.entries = entries;
    }

    /// The list, sorted.
    pub(super) fn sorted(mut self) -> ObjectList {
        self.sort_by(|entry| entry.split as usize, false);
        self.in_order()
    }

    /// The list, of objects that were added in order.
    pub(super) fn in_order(self) -> ObjectList {
        self.list
    }

    /// Sorts by a key, then by id, then by path if asked for.
    fn sort_by(&mut self, key: impl Fn(&Entry) -> usize, with_paths: bool) {
        let mut entries = std::mem::take(&mut self.list.entries);
        let list = &self.list;
        let mut by_id: Vec<usize> = (0..list.categories.len()).collect();
        by_id.sort_by(|&a, &b| order_in_ids(&list.categories[a], &list.categories[b]));
        let mut rank = vec![0; by_id.len()];
        for (place, idx) in by_id.into_iter().enumerate() {
            rank[idx] = place;
        }
        entries.sort_unstable_by(|a, b| {
            let of = |entry: &Entry| (key(entry), rank[entry.category as usize]);
            let order = of(a).cmp(&of(b)).then_with(|| list.name(a).cmp(list.name(b)));
            let paths = || Path::new(list.path(a)).cmp(Path::new(list.path(b)));
            if with_paths { order.then_with(paths) } else { order }
        });
        self.list.entries = entries;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn object(id: &str, split: Split, path: &str) -> SourceObject {
        SourceObject {
            id: id.parse().unwrap(),
            split,
            path: PathBuf::from(path),
            format: MeshFormat::Obj,
            bytes: Some(path.len() as u64),
            relocated_to: None,
            changed: SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(1_700_000_000_123_456_789)),
        }
    }

    fn list(objects: &[SourceObject]) -> ObjectListBuilder {
        let mut list = ObjectListBuilder::default();
        for object in objects {
            list.add(object).unwrap();
        }
        list
    }

    #[test]
    fn objects_come_back_as_they_were_added_in_the_order_of_splits_and_ids() {
        let mut objects = vec![
            object("b/x", Split::Test, "b/x.obj"),
            object("a-b/y", Split::Train, "elsewhere/1.obj.gz"),
            object("a/z", Split::Train, "a/z.obj.gz"),
            object("a/\u{fc}", Split::Train, "\u{fc}.obj"),
            object("a/y", Split::Val, "a/y.OBJ"),
        ];
        objects[1].relocated_to = Some(PathBuf::from("moved/1.obj.gz"));
        objects[2].bytes = None;
        objects[3].changed = None;
        objects[4].changed = SystemTime::UNIX_EPOCH.checked_sub(Duration::from_nanos(5));
        let list = list(&objects).sorted();
        objects.sort_by(|a, b| (a.split, &a.id).cmp(&(b.split, &b.id)));
        assert_eq!(list.iter().collect::<Vec<_>>(), objects);
        assert_eq!(
            objects[0].id.as_str(),
            "a-b/y",
            "as text, not as category and name"
        );
        for object in &objects {
            assert_eq!(list.find(object.split, &object.id).as_ref(), Some(object));
        }
        assert_eq!(list.find(Split::Test, &objects[0].id), None);
        assert_eq!(Split::ALL.map(|split| list.num_of_split(split)), [3, 1, 1]);
        let subset = list.subset(&[0, 4]);
        assert_eq!(
            subset.iter().collect::<Vec<_>>(),
            [objects[0].clone(), objects[4].clone()]
        );
    }

    #[test]
    fn of_an_id_the_object_with_the_smallest_path_stays() {
        let paths = ["b/x.obj", "a/b/x.obj", "a-b/x.obj", "c.obj"];
        let ids = ["a/x", "a/x", "a/x", "a/c"];
        let of = |place: usize| object(ids[place], Split::ALL[place % 3], paths[place]);
        let mut list = list(&[0, 1, 2, 3].map(of));
        let first = PathBuf::from(paths[1]);
        assert_eq!(
            list.take_duplicates(),
            [(of(2), first.clone()), (of(0), first)],
            "a folder comes before its name with more letters"
        );
        let left = list.sorted();
        assert_eq!(left.iter().collect::<Vec<_>>(), [of(3), of(1)]);
    }

    #[test]
    fn paths_that_do_not_fit_are_refused() {
        let mut list = ObjectListBuilder::default();
        let long = format!("{}.obj", "a".repeat(usize::from(u16::MAX)));
        list.add(&object("a/x", Split::Train, &long)).unwrap_err();
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStrExt as _;
            let path = PathBuf::from(std::ffi::OsStr::from_bytes(b"\xff.obj"));
            let object = SourceObject {
                path,
                ..object("a/x", Split::Train, "x.obj")
            };
            list.add(&object).unwrap_err();
        }
        assert!(list.in_order().is_empty());
    }

    #[test]
    fn an_object_takes_few_bytes() {
        assert_eq!(size_of::<Entry>(), 32);
    }
}
