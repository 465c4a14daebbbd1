//! [`verify`]: proves a dataset, from the hash of each file to each point in its mask.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use glam::Mat3;
use serde::Serialize;

use crate::image_set::{IMAGE_SETS, read_image_set};
use crate::parallel::num_threads;
use crate::pose_contract::{from_row_major, points_in_mask};
use crate::{
    Columns, DatasetError, MANIFEST_FILE_NAME, MIN_POINTS_IN_MASK, Manifest, MeshFindings, ObjectEntry,
    ObjectId, Result, Sample, SampleView, ShardEntry, ShardReader, ViewSelection, decode_gray_png,
    image_sets, store,
};

/// How many problems are spelled out; the others are counted.
const MAX_PROBLEMS: usize = 100;
/// How far from 1 a unit may be, and how far from orthonormal a rotation.
const UNIT_TOLERANCE: f32 = 1e-3;
/// The value of a pixel that no object covers, with most lightings.
const BACKGROUND: u8 = 255;

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VerifyOptions {
    /// Decode every picture too, and hold it against its mask. Without it pictures are proven by their hashes alone.
    pub is_deep: bool,
}

/// What happens while a dataset is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerifyEvent {
    /// It begins.
    Started {
        /// How many rows there are.
        rows: usize,
    },
    /// A row was checked.
    Row,
    /// A shard was checked.
    Shard {
        /// Its name.
        file: String,
    },
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerifyReport {
    /// The hash that names the data.
    pub sha256: String,
    /// How many shards were read.
    pub num_shards: usize,
    /// How many rows.
    pub num_rows: usize,
    /// How many pictures.
    pub num_images: usize,
    /// Was every picture decoded?
    pub is_deep: bool,
    /// The smallest share of an object's points in one of its own masks.
    pub points_in_mask_min: f64,
    /// How many things are wrong.
    pub num_problems: usize,
    /// The first of them.
    pub problems: Vec<Problem>,
}

impl VerifyReport {
    /// Is the dataset whole and right?
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.num_problems == 0
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The shard.
    pub file: String,
    /// The row, if it is one row's fault.
    pub row: Option<usize>,
    /// What is wrong, in a sentence.
    pub what: String,
}

/// Checks every byte and every row of a dataset, on all cores: hashes, schema, ids, ranges, poses, masks, and each
/// object's own points within its own masks; pictures where asked for; and all of its image sets.
///
/// # Errors
/// When the folder holds no finished dataset of this schema version. What is wrong inside is no error but part of
/// the report.
pub fn verify(
    dir: &Path,
    options: VerifyOptions,
    on_event: &mut dyn FnMut(VerifyEvent),
) -> Result<VerifyReport> {
    let manifest = Manifest::read(dir)?;
    let sha256 = manifest.finished(dir)?.to_owned();
    if manifest.layout.columns == Columns::Images {
        return Err(DatasetError::ImagesAlone { path: dir.to_owned() });
    }
    let mut sets = Vec::new();
    let mut problems = Vec::new();
    for name in image_sets(dir)? {
        match read_image_set(dir, &name, &manifest) {
            Ok((set_dir, set)) => sets.push((format!("{IMAGE_SETS}/{name}"), set_dir, set)),
            Err(e) => problems.push(Problem {
                file: format!("{IMAGE_SETS}/{name}/{MANIFEST_FILE_NAME}"),
                row: None,
                what: in_full(&e),
            }),
        }
    }
    on_event(VerifyEvent::Started {
        rows: manifest.shards.iter().map(|s| s.rows).sum(),
    });

    let next = AtomicUsize::new(0);
    let num_threads = num_threads(0).min(manifest.shards.len());
    let mut findings: BTreeMap<usize, Findings> = BTreeMap::new();
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..num_threads {
            let (sender, next, manifest, sets) = (sender.clone(), &next, &manifest, &sets);
            scope.spawn(move || {
                loop {
                    let shard_idx = next.fetch_add(1, Ordering::Relaxed);
                    let Some(entry) = manifest.shards.get(shard_idx) else {
                        break;
                    };
                    // The receiver lives until all senders are gone.
                    let on_row = || drop(sender.send(Message::Row));
                    let sets = sets.iter();
                    let sets: Vec<_> = sets
                        .map(|(name, dir, set)| ShardOfSet::open(name, dir, set, shard_idx))
                        .collect();
                    let mut findings = check_shard(dir, entry, manifest, options, &sets, on_row);
                    findings
                        .problems
                        .extend(sets.into_iter().flat_map(|set| set.problems));
                    let _ = sender.send(Message::Shard(shard_idx, findings));
                }
            });
        }
        drop(sender);
        for message in receiver {
            match message {
                Message::Row => on_event(VerifyEvent::Row),
                Message::Shard(shard_idx, found) => {
                    on_event(VerifyEvent::Shard {
                        file: manifest.shards[shard_idx].file.clone(),
                    });
                    findings.insert(shard_idx, found);
                }
            }
        }
    });
    Ok(report(&manifest, sha256, options, problems, findings))
}

/// The shard of an image set that stands beside one of the dataset.
struct ShardOfSet<'a> {
    /// Its name within the dataset.
    file: String,
    /// What the manifest says of its rows.
    promised: Vec<&'a ObjectEntry>,
    /// If it can be read at all.
    shard: Option<ShardReader>,
    /// What is wrong with it as a whole.
    problems: Vec<Problem>,
}

impl<'a> ShardOfSet<'a> {
    fn open(name: &str, dir: &Path, set: &'a Manifest, shard_idx: usize) -> Self {
        let entry = &set.shards[shard_idx];
        let (shard, mut whats) = open_shard(&dir.join(&entry.file), entry);
        match &shard {
            Ok(shard) if shard.num_rows() != entry.rows => {
                whats.push(format!("{} rows instead of {}", shard.num_rows(), entry.rows));
            }
            Ok(_) => {}
            Err(e) => whats.push(in_full(e)),
        }
        let file = format!("{name}/{}", entry.file);
        let problem = |what| Problem {
            file: file.clone(),
            row: None,
            what,
        };
        Self {
            problems: whats.into_iter().map(problem).collect(),
            file,
            promised: promised(entry),
            shard: shard.ok(),
        }
    }

    /// What is wrong with one of its rows, given that of the dataset.
    fn check_row(&self, row: usize, sample: &Sample, options: VerifyOptions) -> Result<(), String> {
        let Some(shard) = &self.shard else {
            return Ok(());
        };
        let (id, pngs) = shard
            .read_images(row, ViewSelection::All)
            .map_err(|e| in_full(&e))?;
        if id != sample.id {
            return Err(format!("{id} stands beside {}", sample.id));
        }
        let mut sample = sample.clone();
        for (view, png) in sample.views.iter_mut().zip(pngs) {
            view.image_png = png;
            view.gbuffer = None;
        }
        if let Some(promised) = self.promised.get(row) {
            check_promise(&sample, promised)?;
        }
        if options.is_deep {
            for (view_idx, view) in sample.views.iter().enumerate() {
                check_picture(view).map_err(|what| format!("{id}: view {view_idx} {what}"))?;
            }
        }
        Ok(())
    }
}

/// The objects of a shard that became rows, as far as the manifest says it: one of version 1 does not.
fn promised(entry: &ShardEntry) -> Vec<&ObjectEntry> {
    entry
        .objects
        .iter()
        .filter(|object| object.row.is_some())
        .collect()
}

/// A shard, and in what its bytes differ from those that were written.
fn open_shard(path: &Path, entry: &ShardEntry) -> (Result<ShardReader>, Vec<String>) {
    match store::fetch(path) {
        Ok((sha256, file)) => {
            let what = if file.len() != entry.bytes {
                Some(format!("{} bytes instead of {}", file.len(), entry.bytes))
            } else if sha256 != entry.sha256 {
                Some("its bytes were changed: the hash is not the manifest's".to_owned())
            } else {
                None
            };
            (ShardReader::of(file, path), what.into_iter().collect())
        }
        Err(e) => (Err(DatasetError::io("read", path)(e)), Vec::new()),
    }
}

enum Message {
    Row,
    Shard(usize, Findings),
}

/// What was found in one shard.
#[derive(Debug)]
struct Findings {
    ids: Vec<ObjectId>,
    num_images: usize,
    points_in_mask_min: f64,
    problems: Vec<Problem>,
}

/// Puts the findings together in the order of the shards, whichever thread was first.
fn report(
    manifest: &Manifest,
    sha256: String,
    options: VerifyOptions,
    mut problems: Vec<Problem>,
    findings: BTreeMap<usize, Findings>,
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
    let mut place_of_id: BTreeMap<ObjectId, usize> = BTreeMap::new();
    for (shard_idx, found) in findings {
        let file = &manifest.shards[shard_idx].file;
        report.num_rows += found.ids.len();
        report.num_images += found.num_images;
        report.points_in_mask_min = report.points_in_mask_min.min(found.points_in_mask_min);
        problems.extend(found.problems);
        for (row, id) in found.ids.into_iter().enumerate() {
            if let Some(other) = place_of_id.get(&id) {
                let what = format!("{id} is in {} too", manifest.shards[*other].file);
                problems.push(Problem {
                    file: file.clone(),
                    row: Some(row),
                    what,
                });
            }
            place_of_id.insert(id, shard_idx);
        }
    }
    report.num_problems = problems.len();
    problems.truncate(MAX_PROBLEMS);
    report.problems = problems;
    report
}

fn check_shard(
    dir: &Path,
    entry: &ShardEntry,
    manifest: &Manifest,
    options: VerifyOptions,
    sets: &[ShardOfSet<'_>],
    on_row: impl Fn(),
) -> Findings {
    let mut findings = Findings {
        ids: Vec::new(),
        num_images: 0,
        points_in_mask_min: 1.0,
        problems: Vec::new(),
    };
    let path = dir.join(&entry.file);
    let mut problem = |row: Option<usize>, what: String| {
        findings.problems.push(Problem {
            file: entry.file.clone(),
            row,
            what,
        });
    };
    let (shard, whats) = open_shard(&path, entry);
    for what in whats {
        problem(None, what);
    }
    let shard = match shard {
        Ok(shard) => shard,
        Err(e) => {
            problem(None, in_full(&e));
            return findings;
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
        problem(None, "its metadata is not the manifest's".to_owned());
    }
    let promised = promised(entry);
    if manifest.schema_version > 1 && promised.len() != entry.rows {
        problem(
            None,
            format!("{} objects for {} rows", promised.len(), entry.rows),
        );
    }
    let mut of_sets: Vec<Problem> = Vec::new();
    // No more than there should be: a damaged footer may claim any number.
    for row in 0..shard.num_rows().min(entry.rows) {
        on_row();
        let sample = match shard.read(row, ViewSelection::WithGbuffer) {
            Ok(sample) => sample,
            Err(e) => {
                problem(Some(row), in_full(&e));
                continue;
            }
        };
        if findings.ids.last().is_some_and(|last| *last >= sample.id) {
            problem(Some(row), format!("{} is out of order", sample.id));
        }
        findings.num_images += sample.views.len() * (1 + sets.len());
        let (whats, share) = check_sample(&sample, promised.get(row).copied(), manifest, options);
        findings.points_in_mask_min = findings.points_in_mask_min.min(share);
        for what in whats {
            problem(Some(row), format!("{}: {what}", sample.id));
        }
        for set in sets {
            of_sets.extend(set.check_row(row, &sample, options).err().map(|what| Problem {
                file: set.file.clone(),
                row: Some(row),
                what,
            }));
        }
        findings.ids.push(sample.id);
    }
    findings.problems.extend(of_sets);
    findings
}

/// What is wrong with a row, and the smallest share of its points in one of its masks.
fn check_sample(
    sample: &Sample,
    promised: Option<&ObjectEntry>,
    manifest: &Manifest,
    options: VerifyOptions,
) -> (Vec<String>, f64) {
    let mut problems = Vec::new();
    let mut points_in_mask_min = 1.0_f64;
    problems.extend(check_row(sample, manifest).err());
    problems.extend(promised.and_then(|promised| check_promise(sample, promised).err()));
    for (view_idx, view) in sample.views.iter().enumerate() {
        let picture = || {
            if options.is_deep {
                check_picture(view)
            } else {
                Ok(())
            }
        };
        if let Err(what) = check_pose(view).and_then(|()| picture()) {
            problems.push(format!("view {view_idx} {what}"));
        }
        let share = points_in_mask(&sample.points, view);
        points_in_mask_min = points_in_mask_min.min(share);
        if share < MIN_POINTS_IN_MASK {
            let percent = 100.0 * share;
            problems.push(format!(
                "only {percent:.1} % of its points lie in mask {view_idx}"
            ));
        }
    }
    (problems, points_in_mask_min)
}

/// An error with its causes, in one line.
fn in_full(error: &DatasetError) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn check_row(sample: &Sample, manifest: &Manifest) -> Result<(), String> {
    // Destructured whole: a new field must be checked or named here.
    let Sample {
        id,
        category,
        label,
        points,
        normals,
        part_labels,
        views,
        object_from_mesh,
        num_triangles,
        surface_area,
        is_watertight,
        coverage_min,
        source_sha256,
        assets_sha256,
        findings,
    } = sample;
    let ensure = |is_right: bool, what: &str| if is_right { Ok(()) } else { Err(what.to_owned()) };
    ensure(category == id.category(), "its category is not that of its id")?;
    let class = usize::try_from(*label)
        .ok()
        .and_then(|label| manifest.classes.get(label));
    ensure(class == Some(category), "its label is not that of its category")?;
    let is_in_ball = |p: &[f32; 3]| p.iter().map(|x| x * x).sum::<f32>().sqrt() <= 1.0 + UNIT_TOLERANCE;
    ensure(
        points.iter().all(is_in_ball),
        "a point lies outside the unit ball or is not finite",
    )?;
    let is_unit = |n: &[f32; 3]| (n.iter().map(|x| x * x).sum::<f32>().sqrt() - 1.0).abs() <= UNIT_TOLERANCE;
    ensure(normals.iter().all(is_unit), "a normal is not of length 1")?;
    let max_part = part_labels.iter().flatten().max();
    ensure(
        max_part.is_none_or(|&max| usize::from(max) < manifest.parts.len()),
        "a part label names no part",
    )?;
    ensure(
        object_from_mesh.iter().all(|x| x.is_finite()),
        "object_from_mesh is not finite",
    )?;
    ensure(*num_triangles > 0, "it has no triangle")?;
    ensure(
        surface_area.is_finite() && *surface_area > 0.0,
        "its surface area is not positive",
    )?;
    let coverage = views
        .iter()
        .map(|view| view.mask.coverage())
        .fold(f32::INFINITY, f32::min);
    ensure(
        (coverage - coverage_min).abs() <= f32::EPSILON,
        "coverage_min is not that of its masks",
    )?;
    ensure(*coverage_min > 0.0, "a mask is empty")?;
    let is_hash = |sha256: &String| sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit());
    ensure(is_hash(source_sha256), "source_sha256 is no hash")?;
    ensure(
        assets_sha256.as_ref().is_none_or(is_hash),
        "assets_sha256 is no hash",
    )?;
    ensure(
        findings
            .as_ref()
            .is_none_or(|findings| is_consistent(findings, *is_watertight)),
        "its findings contradict each other",
    )
}

fn is_consistent(findings: &MeshFindings, is_watertight: bool) -> bool {
    // Destructured whole: a new count must be checked or named here.
    let MeshFindings {
        num_open_edges,
        num_non_manifold_edges,
        num_flipped_edges,
        num_coincident_triangles,
        num_degenerate_triangles,
        is_inside_out,
        warnings: _,
    } = *findings;
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

/// Is the row what the manifest says about its object?
fn check_promise(sample: &Sample, promised: &ObjectEntry) -> Result<(), String> {
    // Destructured whole: a new field must be checked or named here.
    let ObjectEntry {
        id,
        path: _,
        bytes: _,
        sha256,
        assets_sha256,
        row,
    } = promised;
    if sample.id != *id {
        return Err(format!("the manifest has {id} here"));
    }
    if (Some(&sample.source_sha256), &sample.assets_sha256) != (sha256.as_ref(), assets_sha256) {
        return Err("the manifest names another mesh".to_owned());
    }
    if row.as_ref().is_some_and(|row| *row != sample.digest()) {
        return Err("the manifest has other hashes of its row".to_owned());
    }
    Ok(())
}

fn check_picture(view: &SampleView) -> Result<(), String> {
    let SampleView {
        image_png,
        mask,
        view_from_object: _,
        clip_from_view: _,
        gbuffer,
    } = view;
    let image = decode_gray_png(image_png).map_err(|e| in_full(&e))?;
    if (image.width_px, image.height_px) != (mask.size_px(), mask.size_px()) {
        return Err(format!("is of {}x{} pixels", image.width_px, image.height_px));
    }
    let is_covered = mask.to_pixels();
    let pixels = || image.pixels.iter().zip(&is_covered);
    // One color, whichever the lighting has; white is never that of a covered pixel.
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
            .map_err(|e| format!("has a G-buffer that is damaged: {}", in_full(&e)))?;
        pixels.check(&is_covered)?;
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
