//! [`synthesize_suite`]: synthesized sets that stand in for the sets on which the field is scored, each under a name of its own.
//!
//! | name | stands in for | rows |
//! |---|---|---|
//! | `shapenet` | `ShapeNet`, to pre-train on | 12 views, points |
//! | `modelnet40` | `ModelNet40` | points with normals, whole shapes |
//! | `shapenetpart` | `ShapeNetPart` | points with normals and parts |
//! | `scanobjectnn-obj-only`, `-obj-bg`, `-pb-t50-rs` | `ScanObjectNN`: `OBJ_ONLY`, `OBJ_BG`, `PB_T50_RS` | points that scanners see ([`scan`], [`scene`]) |
//!
//! Each is a data set like any other, whose recipe says `synthesize` and which published set it stands in for; no import of a
//! published set says so, and none of these says `import`. Objects of `shapenet`, `modelnet40` and the scans differ; the three of
//! `ScanObjectNN` have the same ones.

mod scan;
mod scene;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use glam::DVec3;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tap_render::Mesh;

use crate::builder::{BuildEvent, BuildOptions, build};
use crate::error::{BuildError, DatasetError, NameError, Result, ShardError};
use crate::import::sample_of_points;
use crate::manifest::{Manifest, SourceDescription};
use crate::recipe::{BuildRecipe, DEFAULT_ROWS_PER_SHARD, check_rows_per_shard};
use crate::schema::{ColumnSet, Columns, ObjectId, PartName, RowLayout, Sample, ShardHeader, Split};
use crate::seeded_rng::SeededRng;
use crate::sha256;
use crate::source::{ListedObject, ObjectReader, ReadError, Source};
use crate::surface::{Sampler, sample_surface};
use crate::synthesize::{Category, ShapeFamily, ShapeGenerator, check_counts, object_name, object_rng};
use crate::writer::{DatasetPlan, DatasetWriter, ObjectFile, RowProgress, num_shards, write_rows};
use scan::{Scanner, choose};
use scene::Scene;

/// Points of a row of all sets without views, as `ScanObjectNN` and `ShapeNetPart` have them.
pub const SCANNED_POINTS: usize = 2048;
/// Classes of the scans, all of things in rooms, as many as `ScanObjectNN` has.
const INDOOR: [&str; 15] = [
    "mug",
    "urn",
    "chair",
    "table",
    "cabinet",
    "dresser",
    "lamp",
    "coatrack",
    "kettle",
    "teapot",
    "armchair",
    "desk",
    "bookshelf",
    "stove",
    "fan",
];
/// Fewest objects of a class: one of five is for the test.
const MIN_PER_CLASS: usize = 5;
/// Scenes that are drawn until one shows the object.
const MAX_ATTEMPTS: usize = 8;
/// Points of an object that a scan has to see.
const MIN_TARGET_POINTS: usize = 500;

/// A synthesized set; displayed by the name of its folder.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    strum::Display,
    strum::EnumString,
    strum::VariantNames,
    strum::VariantArray,
)]
#[strum(serialize_all = "kebab-case", parse_err_ty = NameError, parse_err_fn = unknown_stand_in)]
#[non_exhaustive]
pub enum StandIn {
    /// Views and points to pre-train on.
    #[strum(serialize = "shapenet")]
    ShapeNet,
    /// Whole shapes to classify.
    #[strum(serialize = "modelnet40")]
    ModelNet40,
    /// Whole shapes with parts.
    #[strum(serialize = "shapenetpart")]
    ShapeNetPart,
    /// Scanned objects alone.
    #[strum(serialize = "scanobjectnn-obj-only")]
    ScanOnly,
    /// Scanned objects with what else is in their boxes.
    #[strum(serialize = "scanobjectnn-obj-bg")]
    ScanBackground,
    /// Objects scanned from one side, in boxes that are shifted, turned and scaled.
    #[strum(serialize = "scanobjectnn-pb-t50-rs")]
    ScanPerturbed,
}

fn unknown_stand_in(text: &str) -> NameError {
    use strum::VariantNames as _;
    NameError::StandIn {
        text: text.to_owned(),
        expected: StandIn::VARIANTS.join(", "),
    }
}

impl StandIn {
    /// All of them, in the order in which they are made.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The published set that it stands in for; none is published under this name.
    const fn published(self) -> &'static str {
        match self {
            Self::ShapeNet => "ShapeNet",
            Self::ModelNet40 => "ModelNet40",
            Self::ShapeNetPart => "ShapeNetPart",
            Self::ScanOnly => "ScanObjectNN OBJ_ONLY",
            Self::ScanBackground => "ScanObjectNN OBJ_BG",
            Self::ScanPerturbed => "ScanObjectNN PB_T50_RS",
        }
    }

    const fn family(self) -> ShapeFamily {
        match self {
            Self::ShapeNetPart => ShapeFamily::Basic,
            _ => ShapeFamily::Varied,
        }
    }

    const fn is_scanned(self) -> bool {
        matches!(self, Self::ScanOnly | Self::ScanBackground | Self::ScanPerturbed)
    }

    /// Its categories, the first so many.
    fn categories(self, classes: usize) -> Vec<Category> {
        let all = self.family().categories().iter().copied();
        let own = all.filter(|category| !self.is_scanned() || INDOOR.contains(&category.name));
        own.take(classes).collect()
    }

    fn generator(self, seed: u64) -> ShapeGenerator {
        ShapeGenerator {
            family: self.family(),
            purpose: match self {
                Self::ShapeNet => "pretrain ",
                Self::ModelNet40 => "modelnet40 ",
                Self::ShapeNetPart => "shapenetpart ",
                // The same objects in all three.
                Self::ScanOnly | Self::ScanBackground | Self::ScanPerturbed => "scanned ",
            },
            seed,
            random_yaw: self.is_scanned(),
        }
    }
}

/// Which sets are made, and how large.
#[derive(Debug, Clone)]
pub struct SuiteOptions {
    /// Folder of the sets.
    pub root: PathBuf,
    /// The sets, each once, in this order.
    pub sets: Vec<StandIn>,
    /// Categories of each set, the first so many; a set that has fewer takes all.
    pub classes: usize,
    /// Objects per category.
    pub per_class: usize,
    /// Seed of all randomness.
    pub seed: u64,
    /// Recipe of the set with views.
    pub pretrain: BuildRecipe,
    /// Rows per shard of the sets without views.
    pub rows_per_shard: usize,
    /// Worker threads; 0 means one per core. The bytes do not depend on it.
    pub workers: usize,
    /// Replace other data sets in the folders of these.
    pub force: bool,
}

impl SuiteOptions {
    /// Largest number of categories of a set.
    pub const MAX_CLASSES: usize = 24;

    /// All sets, all categories, 100 objects each, seed 0.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            sets: StandIn::ALL.to_vec(),
            classes: Self::MAX_CLASSES,
            per_class: 100,
            seed: 0,
            pretrain: BuildRecipe::default(),
            rows_per_shard: DEFAULT_ROWS_PER_SHARD,
            workers: 0,
            force: false,
        }
    }
}

/// Progress events of [`synthesize_suite`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SuiteEvent {
    /// A set is begun.
    Started {
        /// The set.
        set: StandIn,
        /// Rows of it.
        rows: usize,
        /// Rows that an earlier run has written.
        done: usize,
    },
    /// One more row is written.
    Written,
}

/// A finished set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SuiteReport {
    /// Name of the set and of its folder.
    pub set: String,
    /// Its folder.
    pub out: PathBuf,
    /// The published set that it stands in for.
    pub stand_in_for: &'static str,
    /// Hash of the data.
    pub sha256: Option<String>,
    /// Rows to train on.
    pub num_train: usize,
    /// Rows to test on.
    pub num_test: usize,
    /// Points of a row.
    pub num_points: usize,
    /// Views of a row.
    pub num_views: usize,
    /// Part labels in all.
    pub num_parts: usize,
    /// Class names.
    pub classes: Vec<String>,
}

/// Makes the sets, or goes on with those that a killed run has left. `None` if cancelled.
///
/// # Errors
/// When a number is out of range (before anything is written), a folder holds another data set (unless `force` is set) or
/// something else, or writing fails. What is finished stays.
pub fn synthesize_suite(
    options: &SuiteOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(SuiteEvent),
) -> Result<Option<Vec<SuiteReport>>> {
    check_counts(
        options.classes,
        SuiteOptions::MAX_CLASSES,
        options.per_class,
        MIN_PER_CLASS,
    )?;
    check_rows_per_shard(options.rows_per_shard)?;
    options.pretrain.validate()?;
    let mut reports = Vec::new();
    for &set in &options.sets {
        let out = options.root.join(set.to_string());
        let manifest = match set {
            StandIn::ShapeNet => build_views(set, &out, options, cancel, on_event)?,
            _ => write_points(set, &out, options, cancel, on_event)?,
        };
        let Some(manifest) = manifest else {
            return Ok(None);
        };
        reports.push(SuiteReport {
            set: set.to_string(),
            out,
            stand_in_for: set.published(),
            num_train: manifest.num_rows(Split::Train),
            num_test: manifest.num_rows(Split::Test),
            num_points: manifest.layout.num_points,
            num_views: manifest.layout.num_views,
            num_parts: manifest.parts.len(),
            classes: manifest.classes,
            sha256: manifest.sha256,
        });
    }
    Ok(Some(reports))
}

/// An object of a set.
#[derive(Debug)]
struct PlannedRow {
    id: ObjectId,
    split: Split,
    /// Place among the set's categories.
    category: usize,
    index: usize,
}

/// All objects of a set, by split and id.
fn planned_rows(set: StandIn, options: &SuiteOptions) -> Result<(Vec<Category>, Vec<PlannedRow>)> {
    let categories = set.categories(options.classes);
    let generator = set.generator(options.seed);
    let mut rows = Vec::new();
    for (place, category) in categories.iter().enumerate() {
        let is_test = generator.test_objects(category, options.per_class);
        for (index, is_test) in is_test.into_iter().enumerate() {
            rows.push(PlannedRow {
                id: ObjectId::try_new(category.name, &object_name(category.name, index))?,
                split: if is_test { Split::Test } else { Split::Train },
                category: place,
                index,
            });
        }
    }
    rows.sort_by(|a, b| (a.split, &a.id).cmp(&(b.split, &b.id)));
    Ok((categories, rows))
}

/// A set with views is built, as from a folder of meshes.
fn build_views(
    set: StandIn,
    out: &Path,
    options: &SuiteOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(SuiteEvent),
) -> Result<Option<Manifest>> {
    let (categories, rows) = planned_rows(set, options)?;
    let listed = rows.iter().map(|row| ListedObject {
        category: row.id.category().to_owned(),
        name: row.id.name().to_owned(),
        split: row.split,
        path: PathBuf::from(format!("{}/{}.obj", row.category, row.index)),
    });
    let reader = MeshReader {
        generator: set.generator(options.seed),
        categories,
    };
    let layout = format!(
        "synthesized {set}: {} of each class, seed {}",
        options.per_class, options.seed
    );
    let source = Source::from_reader(&layout, listed, reader)?;
    let build_options = BuildOptions {
        workers: options.workers,
        force: options.force,
        ..BuildOptions::new(out.to_owned())
    };
    let mut skipped = None;
    let num_rows = rows.len();
    // Nothing is known of earlier rows before the first event after the start.
    let mut is_started = false;
    let mut start = |done, on_event: &mut dyn FnMut(SuiteEvent)| {
        if !std::mem::replace(&mut is_started, true) {
            on_event(SuiteEvent::Started {
                set,
                rows: num_rows,
                done,
            });
        }
    };
    let summary = build(
        &source,
        &options.pretrain,
        &build_options,
        cancel,
        &mut |event| match event {
            BuildEvent::Resumed { objects } => start(objects, on_event),
            BuildEvent::Done { .. } => {
                start(0, on_event);
                on_event(SuiteEvent::Written);
            }
            BuildEvent::Skipped { id, message, .. } => {
                skipped.get_or_insert(format!("{id}: {message}"));
            }
            _ => {}
        },
    )?;
    if let Some(reasons) = skipped {
        return Err(DatasetError::Build(BuildError::AllSkipped {
            num_objects: summary.num_failed(),
            reasons,
        }));
    }
    Ok(summary.is_complete.then_some(summary.manifest))
}

/// Makes `<category>/<index>.obj` when it is read.
#[derive(Debug)]
struct MeshReader {
    generator: ShapeGenerator,
    categories: Vec<Category>,
}

impl ObjectReader for MeshReader {
    fn read(&self, path: &Path, _limit_bytes: u64) -> Result<Vec<u8>, ReadError> {
        let number = |name: Option<&std::ffi::OsStr>| name?.to_str()?.parse::<usize>().ok();
        let category = number(path.parent().and_then(Path::file_name));
        let category = category.and_then(|place| self.categories.get(place));
        let (Some(category), Some(index)) = (category, number(path.file_stem())) else {
            return Err(std::io::Error::from(std::io::ErrorKind::NotFound).into());
        };
        let (object, _) = self.generator.object(category, index);
        Ok(object.to_obj().into_bytes())
    }
}

/// What the rows of a set without views have in common.
struct PointSet {
    set: StandIn,
    seed: u64,
    generator: ShapeGenerator,
    categories: Vec<Category>,
    /// Of everything that may stand in a scene.
    clutter: Vec<Category>,
    /// Sorted.
    classes: Vec<String>,
    /// By category in sorted order; a part's label is its place. Empty where rows have no part labels.
    parts: Vec<PartName>,
    scanner: Scanner,
}

fn write_points(
    set: StandIn,
    out: &Path,
    options: &SuiteOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(SuiteEvent),
) -> Result<Option<Manifest>> {
    let (categories, rows) = planned_rows(set, options)?;
    let mut classes: Vec<String> = categories
        .iter()
        .map(|category| category.name.to_owned())
        .collect();
    classes.sort();
    let points = PointSet {
        set,
        seed: options.seed,
        generator: set.generator(options.seed),
        parts: match set {
            StandIn::ShapeNetPart => part_names(&categories),
            _ => Vec::new(),
        },
        clutter: StandIn::ScanOnly.categories(usize::MAX),
        scanner: Scanner::default(),
        categories,
        classes,
    };
    let plan = points.plan(&rows, options);
    let writer = DatasetWriter::open(out, &plan, options.force)?;
    let shards: Vec<&[PlannedRow]> = rows
        .chunk_by(|a, b| a.split == b.split)
        .flat_map(|split| split.chunks(options.rows_per_shard))
        .collect();
    write_rows(
        writer,
        &shards,
        options.workers,
        cancel,
        |row| points.sample(row),
        |_| ObjectFile { path: "", bytes: 0 },
        &mut |progress| {
            on_event(match progress {
                RowProgress::Started { rows, done } => SuiteEvent::Started { set, rows, done },
                RowProgress::Written => SuiteEvent::Written,
            });
        },
    )
}

/// Parts of all categories, these sorted.
fn part_names(categories: &[Category]) -> Vec<PartName> {
    let mut categories: Vec<&Category> = categories.iter().collect();
    categories.sort_by_key(|category| category.name);
    let of_category = |category: &&Category| {
        let Category { name, parts, .. } = **category;
        parts.iter().map(move |part| PartName {
            category: name.to_owned(),
            name: (*part).to_owned(),
        })
    };
    categories.iter().flat_map(of_category).collect()
}

impl PointSet {
    fn plan(&self, rows: &[PlannedRow], options: &SuiteOptions) -> DatasetPlan {
        let mut columns = Columns::POINTS;
        if !self.set.is_scanned() {
            columns = columns.with(ColumnSet::Normals);
        }
        if !self.parts.is_empty() {
            columns = columns.with(ColumnSet::Parts);
        }
        let mut listing = Sha256::new();
        for PlannedRow { id, split, .. } in rows {
            listing.update(format!("{split} {id}\n"));
        }
        DatasetPlan {
            header: ShardHeader {
                layout: RowLayout {
                    num_points: SCANNED_POINTS,
                    num_views: 0,
                    image_size_px: 0,
                    columns,
                },
                classes: self.classes.clone(),
                parts: self.parts.clone(),
                recipe: self.recipe(options),
                adapter: Value::Null,
            },
            source: SourceDescription {
                layout: format!("synthesized stand-in for {}", self.set.published()),
                publication: None,
                splits: None,
                num_objects: rows.len(),
                listing_sha256: sha256::hex(&listing.finalize()),
                content_sha256: None,
            },
            num_shards: num_shards(options.rows_per_shard, |split| {
                rows.iter().filter(|row| row.split == split).count()
            }),
            part: None,
            parent: None,
            is_relit: false,
            skipped: Vec::new(),
            has_list_files: false,
        }
        .listed()
    }

    /// Everything by which the set is made again; in every shard.
    fn recipe(&self, options: &SuiteOptions) -> Value {
        let scan = match self.set {
            StandIn::ScanPerturbed => {
                json!({"scan": scan::describe(true), "box": scene::describe_perturbed()})
            }
            StandIn::ScanBackground => {
                json!({"scan": scan::describe(false), "box": scene::describe_upright()})
            }
            StandIn::ScanOnly => json!({"scan": scan::describe(false)}),
            _ => json!({"sampler": "uniform"}),
        };
        json!({
            "synthesize": {
                "set": self.set.to_string(),
                "stand_in_for": self.set.published(),
                "is_published": false,
                "family": self.set.family().to_string(),
                "per_class": options.per_class,
                "seed": options.seed,
                "num_points": SCANNED_POINTS,
                "points": scan,
            }
        })
    }

    fn sample(&self, row: &PlannedRow) -> Result<Sample> {
        let category = &self.categories[row.category];
        let class = self
            .classes
            .binary_search_by(|class| class.as_str().cmp(category.name));
        let label = class.expect("every category is a class") as i64;
        if self.set.is_scanned() {
            let points = self.scan(row, category)?;
            return sample_of_points(row.id.clone(), label, &points, None, None);
        }
        let (object, mut rng) = self.generator.object(category, row.index);
        let mesh = scene::mesh_of(&object);
        let samples = sample_surface(&mesh, Sampler::Uniform, SCANNED_POINTS, rng.bits());
        let points: Vec<[f64; 3]> = samples
            .points
            .iter()
            .map(|point| (mesh.origin() + point.as_dvec3()).to_array())
            .collect();
        let normals: Vec<[f64; 3]> = samples
            .normals
            .iter()
            .map(|normal| normal.as_dvec3().to_array())
            .collect();
        let part_labels =
            (!self.parts.is_empty()).then(|| self.part_labels(category, &mesh, &samples.triangle));
        sample_of_points(row.id.clone(), label, &points, Some(&normals), part_labels)
    }

    /// Part label of the points on these triangles.
    fn part_labels(&self, category: &Category, mesh: &Mesh, triangles: &[u32]) -> Vec<u8> {
        let label_of = |part: &String| {
            let named = |name: &PartName| name.category == category.name && name.name == *part;
            self.parts.iter().position(named).expect("every part is listed") as u8
        };
        let labels: Vec<u8> = mesh.part_names().iter().map(label_of).collect();
        let of_triangle = |&triangle: &u32| labels[usize::from(mesh.part_of_triangle()[triangle as usize])];
        triangles.iter().map(of_triangle).collect()
    }

    /// What scanners see of an object. Scenes that hide it are drawn again; the last has nothing but floor and walls.
    fn scan(&self, row: &PlannedRow, category: &Category) -> Result<Vec<[f64; 3]>> {
        let (target, _) = self.generator.object(category, row.index);
        let clutter = ShapeGenerator {
            purpose: "clutter ",
            random_yaw: true,
            ..self.generator
        };
        let other = |rng: &mut SeededRng| {
            let category = &self.clutter[rng.uniform_int(0, self.clutter.len() - 1)];
            clutter.object(category, rng.uniform_int(0, 999)).0
        };
        let is_perturbed = self.set == StandIn::ScanPerturbed;
        let scan = if is_perturbed {
            "scan from one side"
        } else {
            "scan"
        };
        for attempt in 0..=MAX_ATTEMPTS {
            let is_last = attempt == MAX_ATTEMPTS;
            let rng = |what: &str| {
                let key = format!("{what} {attempt} of {}", category.name);
                object_rng(self.seed, &key, row.index)
            };
            let scene = Scene::new(&target, &mut rng("scene"), (!is_last).then_some(&other));
            let mut rng = rng(scan);
            let seen = self.scanner.scan(&scene, is_perturbed, &mut rng)?;
            let num_of_target = seen.iter().filter(|point| point.is_target).count();
            if num_of_target < MIN_TARGET_POINTS && !is_last {
                continue;
            }
            let points = match self.set {
                StandIn::ScanOnly => Some(
                    seen.iter()
                        .filter(|point| point.is_target)
                        .map(|point| point.at)
                        .collect(),
                ),
                StandIn::ScanPerturbed => scene.in_perturbed_box(&seen, is_last, &mut rng),
                _ => Some(scene.in_upright_box(&seen, &mut rng)),
            };
            if let Some(points) = points.filter(|points| !points.is_empty()) {
                let chosen = choose(points, SCANNED_POINTS, &mut rng);
                return Ok(chosen.iter().map(DVec3::to_array).collect());
            }
        }
        Err(DatasetError::Shard(ShardError::Row {
            id: row.id.to_string(),
            detail: "no scanner sees it".to_owned(),
        }))
    }
}

#[cfg(test)]
mod tests;
