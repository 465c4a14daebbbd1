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
    fs,
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
use crate::schema::Split;
use crate::seeded_rng::SeededRng;

/// One in this many objects is in the test split.
const OBJECTS_PER_TEST_OBJECT: usize = 5;
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
    /// Write into a non-empty folder. Objects of earlier runs are removed, nothing else.
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
/// When `out` is not empty and `force` is not set, when a number is out of range, or when writing fails.
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
    let mut splits = String::from("id,category,split\n");
    for category in categories {
        let is_test = test_objects(category, *per_class, *seed);
        for (index, is_test) in is_test.into_iter().enumerate() {
            let mut rng = object_rng(*seed, category.name, index);
            let object = build(category, &mut rng, *random_yaw);
            num_triangles += object.num_triangles();
            let name = format!("{}_{index:04}", category.name);
            let folder = out.join(category.synset).join(&name);
            fs::create_dir_all(&folder).map_err(DatasetError::io("create the folder", &folder))?;
            write(&folder.join("model.obj"), &object.to_obj())?;
            write(&folder.join("model.mtl"), &object.to_mtl(&mut rng))?;
            let split = if is_test { Split::Test } else { Split::Train };
            let _ = writeln!(splits, "{name},{},{split}", category.name);
            on_event(SynthesizeEvent::Done {
                id: format!("{}/{name}", category.name),
            });
        }
    }
    let parts: Map<String, Value> = categories
        .iter()
        .map(|category| (category.name.to_owned(), json!(category.parts)))
        .collect();
    let taxonomy: Vec<Value> = categories
        .iter()
        .map(|category| {
            json!({"synsetId": category.synset, "name": category.name, "children": [], "numInstances": per_class})
        })
        .collect();
    write(&out.join("split.csv"), &splits)?;
    write(&out.join("parts.json"), &format!("{:#}\n", Value::Object(parts)))?;
    write(
        &out.join("taxonomy.json"),
        &format!("{:#}\n", Value::Array(taxonomy)),
    )?;
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

/// Creates the folder; checks that it is empty, or removes earlier objects.
fn prepare(out: &Path, force: bool) -> Result<()> {
    fs::create_dir_all(out).map_err(DatasetError::io("create the folder", out))?;
    let mut entries = fs::read_dir(out).map_err(DatasetError::io("read the folder", out))?;
    if entries.next().is_none() {
        return Ok(());
    }
    if !force {
        return Err(DatasetError::Store(StoreError::NotEmpty { path: out.to_owned() }));
    }
    for category in &CATEGORIES {
        let folder = out.join(category.synset);
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry
                .map_err(DatasetError::io("read the folder", &folder))?
                .path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            let number = name
                .strip_prefix(category.name)
                .and_then(|rest| rest.strip_prefix('_'));
            if number
                .is_some_and(|number| number.len() >= 4 && number.bytes().all(|byte| byte.is_ascii_digit()))
            {
                fs::remove_dir_all(&path).map_err(DatasetError::io("remove the folder", &path))?;
            }
        }
        // Fails if it holds anything else.
        let _ = fs::remove_dir(&folder);
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(DatasetError::io("write", path))
}

#[cfg(test)]
mod tests;
