//! Procedural, labeled CAD-like objects for demos, tests and first steps, in two families.
//!
//! The layout is that of `ShapeNetCore`: `<synset>/<name>/model.obj` with its `model.mtl`, and
//! `taxonomy.json`. OBJ groups are parts, `parts.json` lists them per category, and `split.csv` holds the
//! splits. Objects are y-up and face +z; each part consists of closed solids. Equal options give equal bytes.

mod category;
mod family;
mod object;
mod rng;
mod solid;

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_json::{Map, Value, json};

pub use self::family::ShapeFamily;
pub(crate) use self::{
    category::Category, family::ShapeGenerator, object::Object, rng::object_rng, solid::Solid,
};

use self::category::{BASIC, VARIED};
use crate::atomic_file::partial_path;
use crate::error::{DatasetError, RecipeError, Result, StoreError};
use crate::owned_folder::{OwnedFolder, refuse_foreign_file, refuse_link};
use crate::schema::Split;

/// Files of an object.
const OBJECT_FILES: [&str; 2] = ["model.obj", "model.mtl"];
/// Splits, parts per category, and categories.
const SPLITS_FILE: &str = "split.csv";
const PARTS_FILE: &str = "parts.json";
const TAXONOMY_FILE: &str = "taxonomy.json";
/// Whether a text is a list of ours.
type IsOurs = fn(&str) -> bool;
/// The lists of a folder, and what knows them as ours.
const LISTS: [(&str, IsOurs); 3] = [
    (SPLITS_FILE, is_splits),
    (PARTS_FILE, is_parts),
    (TAXONOMY_FILE, is_taxonomy),
];
/// First line of the splits file.
const SPLITS_HEADER: &str = "id,category,split";
/// Most objects per category.
pub(crate) const MAX_PER_CLASS: usize = 1_000_000;

/// What to generate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SynthesizeOptions {
    /// Output folder: new or empty, unless `force` is set.
    pub out: PathBuf,
    /// Which categories there are.
    pub family: ShapeFamily,
    /// Number of categories, from the start of [`ShapeFamily::category_names`].
    pub classes: usize,
    /// Objects per category.
    pub per_class: usize,
    /// Seed of all randomness.
    pub seed: u64,
    /// Rotate each object around the up axis. Off by default: `ShapeNetCore` is aligned.
    pub random_yaw: bool,
    /// Write into a non-empty folder. Objects of earlier runs are removed, nothing else; where a file of another origin would be
    /// overwritten, nothing is done.
    pub force: bool,
}

impl SynthesizeOptions {
    /// All categories of the family `basic`, 100 objects each, seed 0.
    #[must_use]
    pub fn new(out: impl Into<PathBuf>) -> Self {
        Self {
            out: out.into(),
            family: ShapeFamily::Basic,
            classes: BASIC.len(),
            per_class: 100,
            seed: 0,
            random_yaw: false,
            force: false,
        }
    }
}

/// Progress events of [`synthesize`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SynthesizeEvent {
    /// Start of the generation.
    Started {
        /// Objects to be written.
        total: usize,
    },
    /// An object was written.
    Done {
        /// `<category>/<name>`.
        id: String,
    },
}

/// Outcome of [`synthesize`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SynthesizeSummary {
    /// Category names, in order.
    pub categories: Vec<&'static str>,
    /// Objects written.
    pub num_objects: usize,
    /// Total triangles.
    pub num_triangles: usize,
}

/// Generates and writes objects. A new folder appears when it is complete.
///
/// # Errors
/// When `out` is not empty and `force` is not set, or holds files that would be lost, when a number is out of range, or
/// when writing fails.
pub fn synthesize(
    options: &SynthesizeOptions,
    on_event: &mut dyn FnMut(SynthesizeEvent),
) -> Result<SynthesizeSummary> {
    let categories = options.family.categories();
    check_counts(options.classes, categories.len(), options.per_class, 1)?;
    let categories = &categories[..options.classes];
    let out = &options.out;
    if fs::symlink_metadata(out).is_ok() {
        prepare(out, options.force)?;
        return write_objects(options, categories, out, on_event);
    }
    let partial = partial_path(out);
    clear_partial(&partial)?;
    let written = write_objects(options, categories, &partial, on_event).and_then(|summary| {
        fs::rename(&partial, out).map_err(DatasetError::io("create the folder", out))?;
        Ok(summary)
    });
    if written.is_err() {
        // As a full disk does. The error of writing says more than one of clearing up.
        let _ = clear_partial(&partial);
        let _ = fs::remove_dir(&partial);
    }
    written
}

/// Creates the folder, without what a killed run has left in it; refuses where it holds anything else.
fn clear_partial(partial: &Path) -> Result<()> {
    refuse_link(partial)?;
    prepare(partial, true)?;
    for name in LISTS.map(|(name, _)| name) {
        match fs::remove_file(partial.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(DatasetError::io("remove", &partial.join(name))(e));
            }
            _ => {}
        }
    }
    let entries = fs::read_dir(partial).map_err(DatasetError::io("read the folder", partial))?;
    match entries.flatten().next() {
        Some(entry) => Err(DatasetError::Store(StoreError::NotOurs {
            what: format!("{} is not of a killed run", entry.file_name().display()),
            path: partial.to_owned(),
        })),
        None => Ok(()),
    }
}

/// # Errors
/// When there are no such categories, or too few or too many objects.
pub(crate) fn check_counts(
    classes: usize,
    max_classes: usize,
    per_class: usize,
    min_per_class: usize,
) -> Result<()> {
    if (1..=max_classes).contains(&classes) && (min_per_class..=MAX_PER_CLASS).contains(&per_class) {
        return Ok(());
    }
    Err(DatasetError::Recipe(RecipeError::SynthesizeCount {
        max_classes,
        min_per_class,
        max_per_class: MAX_PER_CLASS,
    }))
}

fn write_objects(
    options: &SynthesizeOptions,
    categories: &[Category],
    out: &Path,
    on_event: &mut dyn FnMut(SynthesizeEvent),
) -> Result<SynthesizeSummary> {
    let SynthesizeOptions {
        family,
        per_class,
        seed,
        random_yaw,
        ..
    } = *options;
    let num_objects = categories.len() * per_class;
    on_event(SynthesizeEvent::Started { total: num_objects });
    let generator = ShapeGenerator {
        family,
        purpose: "",
        seed,
        random_yaw,
    };
    let mut num_triangles = 0;
    let mut splits = format!("{SPLITS_HEADER}\n");
    for category in categories {
        let is_test = generator.test_objects(category, per_class);
        for (index, is_test) in is_test.into_iter().enumerate() {
            let (object, mut rng) = generator.object(category, index);
            num_triangles += object.num_triangles();
            let name = object_name(category.name, index);
            let folder = out.join(category.synset).join(&name);
            fs::create_dir_all(&folder).map_err(DatasetError::io("create the folder", &folder))?;
            write(&folder.join(OBJECT_FILES[0]), &object.to_obj())?;
            write(&folder.join(OBJECT_FILES[1]), &object.to_mtl(&mut rng))?;
            let split = if is_test { Split::Test } else { Split::Train };
            let _ = writeln!(splits, "{name},{},{split}", category.name);
            on_event(SynthesizeEvent::Done {
                id: format!("{}/{name}", category.name),
            });
        }
    }
    write(&out.join(PARTS_FILE), &parts(categories))?;
    write(&out.join(TAXONOMY_FILE), &taxonomy(categories, per_class))?;
    write(&out.join(SPLITS_FILE), &splits)?;
    Ok(SynthesizeSummary {
        categories: categories.iter().map(|category| category.name).collect(),
        num_objects,
        num_triangles,
    })
}

/// `chair_0012`
pub(crate) fn object_name(category: &str, index: usize) -> String {
    format!("{category}_{index:04}")
}

/// Creates the folder; checks that it is empty, or removes earlier objects, once all that would be removed or overwritten
/// was checked.
fn prepare(out: &Path, force: bool) -> Result<()> {
    let is_empty = match fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_none(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => true,
        Err(e) => return Err(DatasetError::io("read the folder", out)(e)),
    };
    if is_empty {
        return fs::create_dir_all(out).map_err(DatasetError::io("create the folder", out));
    }
    if !force {
        return Err(DatasetError::Store(StoreError::NotEmpty { path: out.to_owned() }));
    }
    refuse_link(out)?;
    for (name, is_ours) in LISTS {
        let is_ours = |path: &Path| fs::read_to_string(path).is_ok_and(|text| is_ours(&text));
        refuse_foreign_file(&out.join(name), is_ours)?;
    }
    let mut objects = Vec::new();
    for category in all_categories() {
        let folder = out.join(category.synset);
        refuse_link(&folder)?;
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let entry = entry.map_err(DatasetError::io("read the folder", &folder))?;
            if is_object_name(&entry.file_name().to_string_lossy(), category.name) {
                objects.push(OwnedFolder::survey(&entry.path(), &OBJECT_FILES)?);
            }
        }
    }
    for object in objects {
        let folder = object.path().to_owned();
        object.remove_contents()?;
        fs::remove_dir(&folder).map_err(DatasetError::io("remove the folder", &folder))?;
    }
    for category in all_categories() {
        // Stays if it holds anything else.
        let _ = fs::remove_dir(out.join(category.synset));
    }
    Ok(())
}

/// `<category>_<4 digits or more>`
fn is_object_name(name: &str, category: &str) -> bool {
    let number = name
        .strip_prefix(category)
        .and_then(|rest| rest.strip_prefix('_'));
    number.is_some_and(|number| number.len() >= 4 && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Is a table of splits of synthetic objects alone?
fn is_splits(text: &str) -> bool {
    let mut lines = text.lines();
    let is_row = |line: &str| {
        let mut cells = line.split(',');
        let (name, category) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        is_category(category) && is_object_name(name, category)
    };
    lines.next() == Some(SPLITS_HEADER) && lines.all(is_row)
}

/// Is a list of parts what is written for the first so many categories?
fn is_parts(text: &str) -> bool {
    let is_of = |categories: &[Category]| (1..=categories.len()).any(|num| text == parts(&categories[..num]));
    is_of(&BASIC) || is_of(&VARIED)
}

/// Is a taxonomy what is written for the first so many categories? `ShapeNetCore` has the same ones, with other numbers.
fn is_taxonomy(text: &str) -> bool {
    let entries: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
    let per_class = entries.first().and_then(|entry| entry["numInstances"].as_u64());
    per_class.is_some_and(|per_class| {
        [BASIC.as_slice(), VARIED.as_slice()]
            .into_iter()
            .any(|categories| {
                let categories = categories.get(..entries.len());
                categories.is_some_and(|categories| text == taxonomy(categories, per_class as usize))
            })
    })
}

/// `parts.json`: the parts of each category.
fn parts(categories: &[Category]) -> String {
    let parts: Map<String, Value> = categories
        .iter()
        .map(|category| (category.name.to_owned(), json!(category.parts)))
        .collect();
    format!("{:#}\n", Value::Object(parts))
}

/// `taxonomy.json`: the categories with their numbers of objects.
fn taxonomy(categories: &[Category], per_class: usize) -> String {
    let taxonomy = categories.iter().map(|category| {
        json!({"synsetId": category.synset, "name": category.name, "children": [], "numInstances": per_class})
    });
    format!("{:#}\n", Value::Array(taxonomy.collect()))
}

/// Those of both families.
fn all_categories() -> impl Iterator<Item = Category> {
    BASIC.into_iter().chain(VARIED)
}

fn is_category(name: &str) -> bool {
    all_categories().any(|category| category.name == name)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(DatasetError::io("write", path))
}

#[cfg(test)]
mod tests;
