//! Procedural, labeled CAD-like objects for demos, tests and first steps.
//!
//! The layout is that of `ShapeNetCore`: `<synset>/<name>/model.obj` with its `model.mtl`, and
//! `taxonomy.json`. OBJ groups are parts, `parts.json` lists them per category, and `split.csv` holds the
//! splits. Objects are y-up and face +z; each part consists of closed solids. Equal options give equal bytes.

mod category;
mod object;
mod rng;
mod solid;

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use glam::{DAffine3, DVec3};
use serde::Serialize;
use serde_json::{Map, Value, json};

use self::{
    category::{CATEGORIES, Category},
    object::Object,
    rng::object_rng,
};
use crate::error::{DatasetError, RecipeError, Result, StoreError};
use crate::owned_folder::{OwnedFolder, refuse_foreign_file, refuse_link};
use crate::schema::Split;
use crate::seeded_rng::SeededRng;

/// One in this many objects is in the test split.
const OBJECTS_PER_TEST_OBJECT: usize = 5;
/// Files of an object.
const OBJECT_FILES: [&str; 2] = ["model.obj", "model.mtl"];
/// Splits, parts per category, and categories.
const SPLITS_FILE: &str = "split.csv";
const PARTS_FILE: &str = "parts.json";
const TAXONOMY_FILE: &str = "taxonomy.json";
/// First line of the splits file.
const SPLITS_HEADER: &str = "id,category,split";
/// Each axis is scaled by up to this factor, so that proportions alone reveal little.
const MAX_STRETCH: f64 = 1.2;

/// What to generate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SynthesizeOptions {
    /// Output folder: new or empty, unless `force` is set.
    pub out: PathBuf,
    /// Number of categories, from the start of [`synthesizable_categories`].
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
    /// All categories, 100 objects each, seed 0.
    #[must_use]
    pub fn new(out: impl Into<PathBuf>) -> Self {
        Self {
            out: out.into(),
            classes: CATEGORIES.len(),
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

/// Category names, in the order in which [`SynthesizeOptions::classes`] takes them.
#[must_use]
pub fn synthesizable_categories() -> [&'static str; CATEGORIES.len()] {
    CATEGORIES.map(|category| category.name)
}

/// Generates and writes objects.
///
/// # Errors
/// When `out` is not empty and `force` is not set, or holds files that would be lost, when a number is out of range, or
/// when writing fails.
pub fn synthesize(
    options: &SynthesizeOptions,
    on_event: &mut dyn FnMut(SynthesizeEvent),
) -> Result<SynthesizeSummary> {
    let SynthesizeOptions {
        out,
        classes,
        per_class,
        seed,
        random_yaw,
        force,
    } = options;
    if *classes == 0 || *classes > CATEGORIES.len() || *per_class == 0 {
        return Err(DatasetError::Recipe(RecipeError::SynthesizeCount {
            max_classes: CATEGORIES.len(),
        }));
    }
    let categories = &CATEGORIES[..*classes];
    prepare(out, *force)?;
    on_event(SynthesizeEvent::Started {
        total: classes * per_class,
    });

    let mut num_triangles = 0;
    let mut splits = format!("{SPLITS_HEADER}\n");
    for category in categories {
        let is_test = test_objects(category, *per_class, *seed);
        for (index, is_test) in is_test.into_iter().enumerate() {
            let mut rng = object_rng(*seed, category.name, index);
            let object = build(category, &mut rng, *random_yaw);
            num_triangles += object.num_triangles();
            let name = format!("{}_{index:04}", category.name);
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
    write(&out.join(SPLITS_FILE), &splits)?;
    write(&out.join(PARTS_FILE), &parts(categories))?;
    write(&out.join(TAXONOMY_FILE), &taxonomy(categories, *per_class))?;
    Ok(SynthesizeSummary {
        categories: categories.iter().map(|category| category.name).collect(),
        num_objects: classes * per_class,
        num_triangles,
    })
}

fn build(category: &Category, rng: &mut SeededRng, random_yaw: bool) -> Object {
    let mut object = (category.build)(rng);
    object.transform(DAffine3::from_scale(DVec3::from_array(
        [(); 3].map(|()| rng.log_uniform(MAX_STRETCH)),
    )));
    let yaw = rng.uniform(0.0, std::f64::consts::TAU);
    if random_yaw {
        object.transform(DAffine3::from_rotation_y(yaw));
    }
    object.normalize();
    object
}

/// Random fifth of a category's objects for the test split.
fn test_objects(category: &Category, per_class: usize, seed: u64) -> Vec<bool> {
    let mut rng = object_rng(seed, &format!("split of {}", category.name), 0);
    let mut order: Vec<usize> = (0..per_class).collect();
    for last in (1..per_class).rev() {
        order.swap(last, rng.uniform_int(0, last));
    }
    let mut is_test = vec![false; per_class];
    for &index in &order[..per_class / OBJECTS_PER_TEST_OBJECT] {
        is_test[index] = true;
    }
    is_test
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
    for (name, is_ours) in [
        (SPLITS_FILE, is_splits as fn(&str) -> bool),
        (PARTS_FILE, is_parts),
        (TAXONOMY_FILE, is_taxonomy),
    ] {
        let is_ours = |path: &Path| fs::read_to_string(path).is_ok_and(|text| is_ours(&text));
        refuse_foreign_file(&out.join(name), is_ours)?;
    }
    let mut objects = Vec::new();
    for category in &CATEGORIES {
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
    for category in &CATEGORIES {
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
    (1..=CATEGORIES.len()).any(|num| text == parts(&CATEGORIES[..num]))
}

/// Is a taxonomy what is written for the first so many categories? `ShapeNetCore` has the same ones, with other numbers.
fn is_taxonomy(text: &str) -> bool {
    let entries: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
    let per_class = entries.first().and_then(|entry| entry["numInstances"].as_u64());
    per_class.is_some_and(|per_class| {
        CATEGORIES
            .get(..entries.len())
            .is_some_and(|categories| text == taxonomy(categories, per_class as usize))
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

fn is_category(name: &str) -> bool {
    CATEGORIES.iter().any(|category| category.name == name)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(DatasetError::io("write", path))
}

#[cfg(test)]
mod tests;
