//! [`verify`]: checks a dataset from file hashes to the reprojection of each point.

use std::fmt;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use glam::Mat3;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::{DatasetError, ImageSetError, Result, error_chain};
use crate::feature_set::{check_feature_set, feature_sets};
use crate::image::decode_gray_png;
use crate::image_set::{image_set_dir, image_sets, read_image_set};
use crate::manifest::{ListFile, Lists, MANIFEST_FILE_NAME, Manifest, ObjectEntry, ShardEntry, ShardObjects};
use crate::pipeline::{Delivery, Limits, OneStage, num_threads, parallel_map, run};
use crate::reprojection::{MIN_POINTS_IN_MASK, from_row_major, is_thin, points_in_mask};
use crate::schema::{MeshIssues, MeshStats, ObjectId, Sample, SampleView};
use crate::shard::{Projection, ShardReader, ViewSelection};
use crate::store::{self, SharedFile};

/// Limit on listed problems; the rest are only counted.
const MAX_PROBLEMS: usize = 100;
/// Tolerance for unit lengths and for the orthonormality of rotations.
const UNIT_TOLERANCE: f32 = 1e-3;
/// Background value of most lightings.
const BACKGROUND: u8 = 255;

/// Depth of verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VerifyOptions {
    /// Also decode every image and compare it with its mask. Otherwise images are covered by hashes only.
    pub is_deep: bool,
}

/// Progress events of [`verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerifyEvent {
    /// Start of the verification.
    Started {
        /// Number of rows.
        rows: usize,
    },
    /// A row was checked.
    Row,
    /// A shard was checked.
    Shard {
        /// File name.
        file: String,
    },
}

/// Outcome of [`verify`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerifyReport {
    /// Hash of the data.
    pub sha256: String,
    /// Shards read.
    pub num_shards: usize,
    /// Rows read.
    pub num_rows: usize,
    /// Images checked.
    pub num_images: usize,
    /// Whether every image was decoded.
    pub is_deep: bool,
    /// Smallest fraction of an object's points inside one of its masks; 1 without views.
    pub points_in_mask_min: f64,
    /// Number of problems found.
    pub num_problems: usize,
    /// The first problems.
    pub problems: Vec<Problem>,
}

impl VerifyReport {
    /// Whether no problem was found.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.num_problems == 0
    }
}

/// A problem found by [`verify`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Shard file.
    pub file: String,
    /// Row index, if the problem concerns a single row.
    pub row: Option<usize>,
    /// Description of the problem.
    #[serde(rename = "what")]
    pub detail: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, row, detail } = self;
        match row {
            Some(row) => write!(f, "{file}, row {row}: {detail}"),
            None => write!(f, "{file}: {detail}"),
        }
    }
}

/// Checks every byte and row of a dataset on all cores: hashes, schema, ids, value ranges, poses, masks, the
/// reprojection of points into masks, optionally images, and all image sets and feature sets; of each row what its dataset declares.
///
/// # Errors
/// When the folder is not a complete dataset of a supported schema version. Problems inside are part of the
/// report.
pub fn verify(
    dir: &Path,
    options: VerifyOptions,
    on_event: &mut dyn FnMut(VerifyEvent),
) -> Result<VerifyReport> {
    let manifest = Manifest::read(dir)?;
    let sha256 = manifest.complete_sha256(dir)?.to_owned();
    if manifest.layout.columns.is_image_set() {
        return Err(DatasetError::ImageSet(ImageSetError::NotADataset {
            path: dir.to_owned(),
        }));
    }
    let mut sets = Vec::new();
    let mut problems = Vec::new();
    for name in image_sets(dir)? {
        let set_dir = image_set_dir(dir, &name)?;
        let folder = set_dir
            .strip_prefix(dir)
            .unwrap_or(&set_dir)
            .display()
            .to_string();
        match read_image_set(dir, &name, &manifest) {
            Ok((set_dir, set)) => {
                let found = check_lists(&set_dir, &set).into_iter();
                problems.extend(found.map(|problem| Problem {
                    file: format!("{folder}/{}", problem.file),
                    ..problem
                }));
                sets.push((folder, set_dir, set));
            }
            Err(e) => problems.push(Problem {
                file: format!("{folder}/{MANIFEST_FILE_NAME}"),
                row: None,
                detail: error_chain(&e),
            }),
        }
    }
    for name in feature_sets(dir)? {
        let found = check_feature_set(dir, &name, &manifest)?.into_iter();
        problems.extend(found.map(|(file, row, detail)| Problem { file, row, detail }));
    }
    problems.extend(check_lists(dir, &manifest));
    let are_lists_whole = problems.is_empty();
    let objects = manifest.objects()?;
    let of_sets = sets
        .iter()
        .map(|(name, dir, set)| Ok((name, dir, set, set.objects()?)));
    let sets: Vec<_> = of_sets.collect::<Result<_>>()?;
    on_event(VerifyEvent::Started {
        rows: manifest.shards.iter().map(|s| s.rows).sum(),
    });

    let check = |shard_idx: usize, on_row: &dyn Fn(RowChecked)| {
        let entry = &manifest.shards[shard_idx];
        let sets: Vec<_> = sets
            .iter()
            .map(|(name, dir, set, objects)| ImageSetShard::open(name, dir, set, objects, shard_idx))
            .collect();
        let (expected, problem) = match expected(&objects, shard_idx) {
            Ok(expected) => (Some(expected), None),
            Err(e) => (None, Some(error_chain(&e))),
        };
        let mut result = check_shard(dir, entry, expected, &manifest, options, &sets, || {
            on_row(RowChecked);
        });
        // A list that is damaged is a problem once, and not of each of its shards.
        result
            .problems
            .extend(problem.filter(|_| are_lists_whole).map(|detail| Problem {
                file: entry.file.clone(),
                row: None,
                detail,
            }));
        result
            .problems
            .extend(sets.into_iter().flat_map(|set| set.problems));
        Ok(result)
    };
    let panicked = |shard_idx: usize, message: String| {
        Ok(ShardResult::of_problem(Problem {
            file: manifest.shards[shard_idx].file.clone(),
            row: None,
            detail: format!("checking it panicked: {message}"),
        }))
    };
    let limits = Limits {
        num_threads: num_threads(0),
        // Results are small and all are kept.
        max_items: manifest.shards.len(),
        max_bytes: u64::MAX,
    };
    let job = OneStage::new(manifest.shards.len(), check, panicked);
    let mut results = Vec::with_capacity(manifest.shards.len());
    run(&job, limits, &AtomicBool::new(false), &mut |delivery| {
        match delivery {
            Delivery::Event(RowChecked) => on_event(VerifyEvent::Row),
            Delivery::Output(shard_idx, result) => {
                on_event(VerifyEvent::Shard {
                    file: manifest.shards[shard_idx].file.clone(),
                });
                results.push(result);
            }
        }
        Ok::<_, DatasetError>(())
    })?;
    Ok(report(dir, &manifest, sha256, options, problems, results))
}

/// Event of a worker that checked a row.
struct RowChecked;

/// Image-set shard that corresponds to a shard of the dataset.
struct ImageSetShard {
    /// Name within the dataset.
    file: String,
    /// Manifest entries of its rows, if they can be read.
    expected: Vec<ObjectEntry>,
    /// `None` if it cannot be read.
    shard: Option<ShardReader>,
    /// Problems of the shard as a whole.
    problems: Vec<Problem>,
}

impl ImageSetShard {
    fn open(name: &str, dir: &Path, set: &Manifest, objects: &ShardObjects<'_>, shard_idx: usize) -> Self {
        let entry = &set.shards[shard_idx];
        let (shard, mut messages) = open_shard(&dir.join(&entry.file), entry, set);
        match &shard {
            Ok(shard) if shard.num_rows() != entry.rows => {
                messages.push(format!("{} rows instead of {}", shard.num_rows(), entry.rows));
            }
            Ok(_) => {}
            Err(e) => messages.push(error_chain(e)),
        }
        let file = format!("{name}/{}", entry.file);
        let problem = |detail| Problem {
            file: file.clone(),
            row: None,
            detail,
        };
        Self {
            problems: messages.into_iter().map(problem).collect(),
            file,
            expected: expected(objects, shard_idx).unwrap_or_default(),
            shard: shard.ok(),
        }
    }

    /// Checks a row against the dataset's row.
    fn check_row(&self, row: usize, sample: &Sample, options: VerifyOptions) -> Result<(), String> {
        let Some(shard) = &self.shard else {
            return Ok(());
        };
        let (id, pngs) = shard
            .read_images(row, &Projection::default())
            .map_err(|e| error_chain(&e))?;
        if id != sample.id {
            return Err(format!("{id} instead of {}", sample.id));
        }
        let mut sample = sample.clone();
        for (view, png) in sample.views.iter_mut().zip(pngs) {
            view.image_png = png;
            view.gbuffer = None;
        }
        if let Some(expected) = self.expected.get(row) {
            check_manifest_entry(&sample, expected)?;
        }
        if options.is_deep {
            for (view_number, view) in (1..).zip(&sample.views) {
                check_image(view).map_err(|detail| format!("{id}: view {view_number} {detail}"))?;
            }
        }
        Ok(())
    }
}

/// What the manifest says of a shard's rows.
fn expected(objects: &ShardObjects<'_>, shard_idx: usize) -> Result<Vec<ObjectEntry>> {
    let objects = objects.of_shard(shard_idx)?;
    let rows = objects.iter().filter(|object| object.row.is_some());
    Ok(rows.cloned().collect())
}

/// Problems of the lists of the objects of a large data set: none for others.
fn check_lists(dir: &Path, manifest: &Manifest) -> Vec<Problem> {
    let lists: Vec<&ListFile> = manifest.lists.iter().flat_map(Lists::files).collect();
    let check = |idx: usize| {
        let list = lists[idx];
        match store::fetch(&dir.join(&list.file)) {
            Ok((_, file)) if file.len() != list.bytes => {
                Some(format!("{} bytes instead of {}", file.len(), list.bytes))
            }
            Ok((sha256, _)) if sha256 != list.sha256 => {
                Some("its content was changed: the hash does not match the manifest".to_owned())
            }
            Ok(_) => None,
            Err(e) => Some(error_chain(&DatasetError::io("read", &dir.join(&list.file))(e))),
        }
    };
    let details = parallel_map(num_threads(0), lists.len(), check, || {}).unwrap_or_default();
    let problems = lists.iter().zip(details);
    problems
        .filter_map(|(list, detail)| {
            Some(Problem {
                file: list.file.clone(),
                row: None,
                detail: detail?,
            })
        })
        .collect()
}

/// Opens a shard and compares its bytes with the manifest.
fn open_shard(path: &Path, entry: &ShardEntry, manifest: &Manifest) -> (Result<ShardReader>, Vec<String>) {
    match store::fetch(path) {
        Ok((sha256, file)) => {
            let detail = if file.len() != entry.bytes {
                Some(format!("{} bytes instead of {}", file.len(), entry.bytes))
            } else if sha256 != entry.sha256 {
                Some("its content was changed: the hash does not match the manifest".to_owned())
            } else {
                None
            };
            let shard = ShardReader::from_file(SharedFile::Kept(file), path, Some(manifest));
            (shard, detail.into_iter().collect())
        }
        Err(e) => (Err(DatasetError::io("read", path)(e)), Vec::new()),
    }
}

/// The hash of a row's id.
#[derive(Debug, Clone, Copy)]
struct IdHash {
    hash: u64,
    /// Row in its shard.
    row: u32,
}

impl IdHash {
    fn of(id: &ObjectId, row: usize) -> Self {
        let digest = Sha256::digest(id.as_str());
        Self {
            hash: u64::from_le_bytes(*digest.first_chunk().expect("a digest has 32 bytes")),
            row: row as u32,
        }
    }
}

/// Result for one shard.
#[derive(Debug)]
struct ShardResult {
    /// Hashes of the ids of its rows: a large data set has more ids than memory should hold.
    id_hashes: Vec<IdHash>,
    num_images: usize,
    points_in_mask_min: f64,
    problems: Vec<Problem>,
}

impl ShardResult {
    fn new() -> Self {
        Self {
            id_hashes: Vec::new(),
            num_images: 0,
            points_in_mask_min: 1.0,
            problems: Vec::new(),
        }
    }

    fn of_problem(problem: Problem) -> Self {
        Self {
            problems: vec![problem],
            ..Self::new()
        }
    }
}

/// Combines results in shard order, independent of thread timing.
fn report(
    dir: &Path,
    manifest: &Manifest,
    sha256: String,
    options: VerifyOptions,
    mut problems: Vec<Problem>,
    results: Vec<ShardResult>,
) -> VerifyReport {
    let mut report = VerifyReport {
        sha256,
        num_shards: manifest.shards.len(),
        num_rows: 0,
        num_images: 0,
        is_deep: options.is_deep,
        points_in_mask_min: 1.0,
        num_problems: 0,
        problems: Vec::new(),
    };
    let mut id_hashes = Vec::new();
    for (shard_idx, found) in results.into_iter().enumerate() {
        report.num_rows += found.id_hashes.len();
        report.num_images += found.num_images;
        report.points_in_mask_min = report.points_in_mask_min.min(found.points_in_mask_min);
        problems.extend(found.problems);
        let of_shard = found.id_hashes.into_iter();
        id_hashes.extend(of_shard.map(|IdHash { hash, row }| (hash, shard_idx as u32, row)));
    }
    let num_repeated = add_repeated_ids(dir, manifest, id_hashes, &mut problems);
    report.num_problems = problems.len() + num_repeated;
    problems.truncate(MAX_PROBLEMS);
    report.problems = problems;
    report
}

/// Adds rows whose id another row has, as far as problems are listed; returns the number of the others.
fn add_repeated_ids(
    dir: &Path,
    manifest: &Manifest,
    mut id_hashes: Vec<(u64, u32, u32)>,
    problems: &mut Vec<Problem>,
) -> usize {
    id_hashes.sort_unstable();
    let id_of = |(_, shard, row): (u64, u32, u32)| {
        let path = dir.join(&manifest.shards[shard as usize].file);
        let ids = ShardReader::open_of(manifest, &path).and_then(|shard| shard.ids());
        ids.ok()?.into_iter().nth(row as usize)
    };
    let mut num_others = 0;
    for pair in id_hashes.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        if problems.len() >= MAX_PROBLEMS {
            num_others += 1;
            continue;
        }
        let (first, second) = (pair[0], pair[1]);
        // Different ids may have the same hash.
        if let (Some(id), Some(other)) = (id_of(first), id_of(second))
            && id == other
        {
            let file = |(_, shard, _): (u64, u32, u32)| manifest.shards[shard as usize].file.clone();
            problems.push(Problem {
                file: file(second),
                row: Some(second.2 as usize),
                detail: format!("{id} is also in {}", file(first)),
            });
        }
    }
    num_others
}

fn check_shard(
    dir: &Path,
    entry: &ShardEntry,
    expected: Option<Vec<ObjectEntry>>,
    manifest: &Manifest,
    options: VerifyOptions,
    sets: &[ImageSetShard],
    on_row: impl Fn(),
) -> ShardResult {
    let mut results = ShardResult::new();
    let path = dir.join(&entry.file);
    let mut problem = |row: Option<usize>, detail: String| {
        results.problems.push(Problem {
            file: entry.file.clone(),
            row,
            detail,
        });
    };
    let (shard, messages) = open_shard(&path, entry, manifest);
    for detail in messages {
        problem(None, detail);
    }
    let shard = match shard {
        Ok(shard) => shard,
        Err(e) => {
            problem(None, error_chain(&e));
            return results;
        }
    };
    if shard.num_rows() != entry.rows {
        problem(
            None,
            format!("{} rows instead of {}", shard.num_rows(), entry.rows),
        );
    }
    let header = shard.header();
    let of_shard = (
        header.layout,
        &header.classes,
        &header.parts,
        &header.recipe,
        &header.adapter,
    );
    if of_shard
        != (
            manifest.layout,
            &manifest.classes,
            &manifest.parts,
            &manifest.recipe,
            &manifest.adapter,
        )
    {
        problem(None, "its metadata does not match the manifest".to_owned());
    }
    // Those of version 1 list no objects.
    let is_listed = manifest.schema_version > 1;
    if let Some(expected) = expected
        .as_ref()
        .filter(|expected| is_listed && expected.len() != entry.rows)
    {
        problem(
            None,
            format!("{} objects for {} rows", expected.len(), entry.rows),
        );
    }
    let expected = expected.unwrap_or_default();
    let mut of_sets: Vec<Problem> = Vec::new();
    let mut last_id: Option<ObjectId> = None;
    // Bounded by the manifest: a damaged footer may claim any number of rows.
    for row in 0..shard.num_rows().min(entry.rows) {
        on_row();
        let sample = match shard.read(row, ViewSelection::WithGbuffer) {
            Ok(sample) => sample,
            Err(e) => {
                problem(Some(row), error_chain(&e));
                continue;
            }
        };
        if last_id.as_ref().is_some_and(|last| *last >= sample.id) {
            problem(Some(row), format!("{} is out of order", sample.id));
        }
        results.num_images += sample.views.len() * (1 + sets.len());
        let (messages, fraction) = check_sample(&sample, expected.get(row), manifest, options);
        results.points_in_mask_min = results.points_in_mask_min.min(fraction);
        for detail in messages {
            problem(Some(row), format!("{}: {detail}", sample.id));
        }
        for set in sets {
            of_sets.extend(set.check_row(row, &sample, options).err().map(|detail| Problem {
                file: set.file.clone(),
                row: Some(row),
                detail,
            }));
        }
        results.id_hashes.push(IdHash::of(&sample.id, row));
        last_id = Some(sample.id);
    }
    results.problems.extend(of_sets);
    results
}

/// Problems of a row, and the smallest fraction of its points inside one of its masks.
fn check_sample(
    sample: &Sample,
    expected: Option<&ObjectEntry>,
    manifest: &Manifest,
    options: VerifyOptions,
) -> (Vec<String>, f64) {
    let mut problems = Vec::new();
    let mut points_in_mask_min = 1.0_f64;
    problems.extend(check_row(sample, manifest).err());
    problems.extend(expected.and_then(|expected| check_manifest_entry(sample, expected).err()));
    for (view_number, view) in (1..).zip(&sample.views) {
        let image_check = || {
            if options.is_deep {
                check_image(view)
            } else {
                Ok(())
            }
        };
        if let Err(detail) = check_pose(view).and_then(|()| image_check()) {
            problems.push(format!("view {view_number} {detail}"));
        }
        let fraction = points_in_mask(&sample.points, view);
        points_in_mask_min = points_in_mask_min.min(fraction);
        if fraction < MIN_POINTS_IN_MASK && !is_thin(sample.mesh.as_ref()) {
            let percent = 100.0 * fraction;
            problems.push(format!(
                "only {percent:.1} % of its points lie in mask {view_number}"
            ));
        }
    }
    (problems, points_in_mask_min)
}

fn check_row(sample: &Sample, manifest: &Manifest) -> Result<(), String> {
    // Exhaustive: a new field must be checked or listed here.
    let Sample {
        id,
        category,
        label,
        points,
        normals,
        part_labels,
        views: _,
        coverage_min: _,
        object_from_mesh,
        source_sha256,
        assets_sha256,
        mesh,
    } = sample;
    ensure(category == id.category(), "its category does not match its id")?;
    let class = usize::try_from(*label)
        .ok()
        .and_then(|label| manifest.classes.get(label));
    ensure(class == Some(category), "its label does not match its category")?;
    let is_in_ball = |p: &[f32; 3]| p.iter().map(|x| x * x).sum::<f32>().sqrt() <= 1.0 + UNIT_TOLERANCE;
    ensure(
        points.iter().all(is_in_ball),
        "a point lies outside the unit ball or is not finite",
    )?;
    let is_unit = |n: &[f32; 3]| (n.iter().map(|x| x * x).sum::<f32>().sqrt() - 1.0).abs() <= UNIT_TOLERANCE;
    ensure(
        normals.as_deref().unwrap_or_default().iter().all(is_unit),
        "a normal is not of length 1",
    )?;
    let max_part = part_labels.iter().flatten().max();
    ensure(
        max_part.is_none_or(|&max| usize::from(max) < manifest.parts.len()),
        "a part label names no part",
    )?;
    ensure(
        object_from_mesh.iter().all(|x| x.is_finite()),
        "object_from_mesh is not finite",
    )?;
    check_coverage(sample)?;
    let is_hash = |sha256: &String| sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit());
    ensure(is_hash(source_sha256), "source_sha256 is not a hash")?;
    ensure(
        assets_sha256.as_ref().is_none_or(is_hash),
        "assets_sha256 is not a hash",
    )?;
    mesh.as_ref().map_or(Ok(()), check_mesh)
}

fn ensure(is_right: bool, detail: &str) -> Result<(), String> {
    if is_right { Ok(()) } else { Err(detail.to_owned()) }
}

fn check_coverage(sample: &Sample) -> Result<(), String> {
    let coverages = sample.views.iter().map(|view| view.mask.coverage());
    let is_right = match (coverages.reduce(f32::min), sample.coverage_min) {
        (Some(coverage), Some(stored)) => (coverage - stored).abs() <= f32::EPSILON,
        (coverage, stored) => coverage == stored,
    };
    ensure(is_right, "coverage_min does not match its masks")?;
    let is_seen = sample.coverage_min.is_none_or(|coverage| coverage > 0.0);
    ensure(is_seen || is_thin(sample.mesh.as_ref()), "a mask is empty")
}

fn check_mesh(mesh: &MeshStats) -> Result<(), String> {
    // Exhaustive: a new field must be checked or listed here.
    let MeshStats {
        num_triangles,
        surface_area,
        is_watertight,
        issues,
    } = mesh;
    ensure(*num_triangles > 0, "it has no triangle")?;
    ensure(
        surface_area.is_finite() && *surface_area > 0.0,
        "its surface area is not positive",
    )?;
    ensure(
        issues
            .as_ref()
            .is_none_or(|issues| is_consistent(issues, *is_watertight)),
        "its mesh issues contradict each other",
    )
}

fn is_consistent(issues: &MeshIssues, is_watertight: bool) -> bool {
    // Exhaustive: a new count must be checked or listed here.
    let MeshIssues {
        num_open_edges,
        num_non_manifold_edges,
        num_flipped_edges,
        num_coincident_triangles,
        num_degenerate_triangles,
        is_inside_out,
        warnings: _,
    } = *issues;
    let counts = [
        num_open_edges,
        num_non_manifold_edges,
        num_flipped_edges,
        num_coincident_triangles,
        num_degenerate_triangles,
    ];
    counts.into_iter().all(|count| count >= 0)
        && is_watertight == (num_open_edges == 0 && num_non_manifold_edges == 0)
        && (!is_inside_out || (is_watertight && num_flipped_edges == 0))
}

/// Compares a row with its manifest entry.
fn check_manifest_entry(sample: &Sample, expected: &ObjectEntry) -> Result<(), String> {
    // Exhaustive: a new field must be checked or listed here.
    let ObjectEntry {
        id,
        path: _,
        bytes: _,
        sha256,
        assets_sha256,
        row,
    } = expected;
    if sample.id != *id {
        return Err(format!("the manifest lists {id} here"));
    }
    if (Some(&sample.source_sha256), &sample.assets_sha256) != (sha256.as_ref(), assets_sha256) {
        return Err("the manifest lists another mesh".to_owned());
    }
    if row.as_ref().is_some_and(|row| *row != sample.digest()) {
        return Err("the hashes of its row do not match the manifest".to_owned());
    }
    Ok(())
}

fn check_image(view: &SampleView) -> Result<(), String> {
    let SampleView {
        image_png,
        mask,
        view_from_object: _,
        clip_from_view: _,
        gbuffer,
    } = view;
    let image = decode_gray_png(image_png).map_err(|e| error_chain(&e))?;
    if (image.width_px, image.height_px) != (mask.size_px(), mask.size_px()) {
        return Err(format!("is of {}x{} pixels", image.width_px, image.height_px));
    }
    let is_covered = mask.to_pixels();
    let pixels = || image.pixels.iter().zip(&is_covered);
    // The background has a single color, which depends on the lighting; if it is white, no covered pixel is
    // white.
    let background = pixels()
        .find(|(_, covered)| **covered == 0)
        .map_or(BACKGROUND, |(value, _)| *value);
    let is_wrong = |(value, covered): (&u8, &u8)| match covered {
        0 => *value != background,
        _ => background == BACKGROUND && *value == background,
    };
    if pixels().any(is_wrong) {
        return Err("does not show the background exactly where its mask is not covered".to_owned());
    }
    if let Some(gbuffer) = gbuffer {
        let pixels = gbuffer
            .decode(mask.size_px())
            .map_err(|e| format!("has a G-buffer that is damaged: {}", error_chain(&e)))?;
        pixels.validate(&is_covered)?;
    }
    Ok(())
}

fn check_pose(view: &SampleView) -> Result<(), String> {
    let SampleView {
        image_png: _,
        mask: _,
        view_from_object,
        clip_from_view,
        gbuffer: _,
    } = view;
    if !clip_from_view.iter().all(|x| x.is_finite()) {
        return Err("has a clip_from_view that is not finite".to_owned());
    }
    let view_from_object = from_row_major(view_from_object);
    let rotation = Mat3::from_mat4(view_from_object);
    let is_rigid = (rotation * rotation.transpose()).abs_diff_eq(Mat3::IDENTITY, UNIT_TOLERANCE)
        && rotation.determinant() > 0.0
        && view_from_object.row(3) == glam::Vec4::W;
    if is_rigid {
        Ok(())
    } else {
        Err("has a view_from_object that is not rigid".to_owned())
    }
}
