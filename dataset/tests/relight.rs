//! Relighting from the G-buffer equals a fresh build, whether interrupted or not, and invalid requests are
//! refused.
#![cfg(feature = "build")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod boxes;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use boxes::{box_obj, bytes, options, recipe, run_with};
use tap_dataset::{
    BuildError, BuildEvent, BuildRecipe, ColumnSet, Columns, Dataset, DatasetError, GbufferPixels, Manifest,
    RelightOptions, RelightReport, Sample, SampleView, Split, VerifyOptions, ViewSelection, decode_gray_png,
    image_set_dir, image_sets, relight, verify,
};
use tap_render::{Lighting, MaterialChoice};

/// One in this many interior pixels may differ by more than 1/255.
const ONE_FREE_IN: usize = 250;

/// One in this many pixels of a real object, including edges, may differ by more than 8/255.
const ONE_ROUGH_IN: usize = 40;

/// First shard of the boxes.
const SHARD: &str = "train-00000-of-00003.parquet";
/// Its images in an image set.
const IMAGE_SHARD: &str = "train-00000-of-00003.pq";

/// Boxes of two colors, one of them broken.
fn colored_boxes() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let materials = "newmtl red\nKd 0.8 0.2 0.1\nnewmtl blue\nKd 0.1 0.3 0.9\n";
    for i in 0_u8..6 {
        let category = dir.path().join(["crate", "plank"][usize::from(i % 2)]);
        fs::create_dir_all(&category).unwrap();
        fs::write(category.join("box.mtl"), materials).unwrap();
        let obj = box_obj(1.0, 0.2 + 0.1 * f32::from(i), 0.5);
        let obj = obj
            .replace("g body", "usemtl red")
            .replace("g rest", "usemtl blue");
        let obj = if i == 3 {
            "v 0 0 0\n".to_owned()
        } else {
            format!("mtllib box.mtl\n{obj}")
        };
        fs::write(category.join(format!("{i}.obj")), obj).unwrap();
    }
    dir
}

fn recipe_with(lighting: Lighting, gbuffer: bool) -> BuildRecipe {
    let mut recipe = BuildRecipe {
        gbuffer,
        rows_per_shard: 2,
        ..recipe()
    };
    recipe.render.lighting = lighting;
    recipe
}

fn build_with(source: &Path, recipe: &BuildRecipe, out: PathBuf) -> PathBuf {
    let options = options(&out, 2);
    run_with(source, recipe, &options).unwrap();
    out
}

fn relight_to(
    parent: &Path,
    lighting: &Lighting,
    out: &Path,
    workers: usize,
) -> Result<RelightReport, DatasetError> {
    let options = RelightOptions {
        out: out.to_owned(),
        images_only: false,
        workers,
        force: false,
    };
    let report = relight(parent, lighting, &options, &AtomicBool::new(false), &mut |_| {})?;
    Ok(report.expect("it is not cancelled"))
}

fn rows(dir: &Path) -> Vec<Sample> {
    let dataset = Dataset::open(dir).unwrap();
    let read = |row| {
        dataset
            .read(Split::Train, row, ViewSelection::WithGbuffer)
            .unwrap()
    };
    (0..dataset.len(Split::Train)).map(read).collect()
}

/// The lighting of `mvcnn` with the materials and normals of another one.
fn plain_light_on(other: &Lighting) -> Lighting {
    Lighting {
        material: other.material,
        normals: other.normals,
        ..Lighting::mvcnn()
    }
}

/// Whether a pixel and its neighbors see the same plane and color.
fn is_interior(pixels: &GbufferPixels, size: usize, i: usize) -> bool {
    let (x, y) = (i % size, i / size);
    let is_of_one_color = |other: usize| {
        let colors = |albedo: &Vec<[u8; 3]>| {
            albedo[other]
                .iter()
                .zip(albedo[i])
                .all(|(a, b)| a.abs_diff(b) <= 1)
        };
        pixels.albedo.as_ref().is_none_or(colors)
    };
    let is_near = |other: usize| {
        let [a, b] = [pixels.normals[other], pixels.normals[i]];
        is_of_one_color(other)
            && pixels.depth[other].is_finite()
            && a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>() > 0.9999
    };
    (1..size - 1).contains(&x)
        && (1..size - 1).contains(&y)
        && [1, size - 1, size, size + 1].iter().all(|step| {
            let bend = pixels.depth[i - step] + pixels.depth[i + step] - 2.0 * pixels.depth[i];
            is_near(i - step) && is_near(i + step) && bend.abs() < 1e-3
        })
}

/// Number of covered pixels, and of those that differ by more than 8/255.
fn compare_all(relit: &SampleView, fresh: &SampleView) -> [usize; 2] {
    let [relit_gray, fresh_gray] =
        [relit, fresh].map(|view| decode_gray_png(&view.image_png).unwrap().pixels);
    let pairs = relit_gray.iter().zip(fresh_gray);
    let num_off = pairs.filter(|(relit, fresh)| relit.abs_diff(*fresh) > 8).count();
    [relit.mask.num_covered(), num_off]
}

/// Number of interior pixels, and of those that differ by more than 1/255. Background pixels are equal.
fn compare(relit: &SampleView, fresh: &SampleView) -> [usize; 2] {
    let size = relit.mask.size_px();
    let pixels = relit.gbuffer.as_ref().unwrap().decode(size).unwrap();
    let [relit_gray, fresh_gray] =
        [relit, fresh].map(|view| decode_gray_png(&view.image_png).unwrap().pixels);
    let [mut num_interior, mut num_off] = [0; 2];
    for (i, covered) in relit.mask.to_pixels().into_iter().enumerate() {
        let off = relit_gray[i].abs_diff(fresh_gray[i]);
        if covered == 0 {
            assert_eq!(off, 0, "the background of {}", relit_gray[i]);
        } else if is_interior(&pixels, size as usize, i) {
            num_interior += 1;
            num_off += usize::from(off > 1);
        }
    }
    [num_interior, num_off]
}

#[test]
fn every_preset_gives_the_pictures_of_a_fresh_build() {
    let (source, out) = (colored_boxes(), tempfile::tempdir().unwrap());
    for name in Lighting::PRESETS {
        let lighting: Lighting = name.parse().unwrap();
        let at = |detail: &str| out.path().join(format!("{detail} {name}"));
        let stored = build_with(
            source.path(),
            &recipe_with(plain_light_on(&lighting), true),
            at("stored"),
        );
        let fresh = build_with(source.path(), &recipe_with(lighting.clone(), true), at("fresh"));
        let report = relight_to(&stored, &lighting, &at("relit"), 2).unwrap();
        assert_eq!((report.num_rows, report.num_shards), (5, 3), "{name}");
        let [mut num_interior, mut num_off] = [0; 2];
        for (mut relit, mut fresh) in rows(&at("relit")).into_iter().zip(rows(&fresh)) {
            for (relit, fresh) in relit.views.iter_mut().zip(&mut fresh.views) {
                let [interior, off] = compare(relit, fresh);
                (num_interior, num_off) = (num_interior + interior, num_off + off);
                assert_eq!(
                    relit.image_png[25], fresh.image_png[25],
                    "{name}: gray stays gray"
                );
                relit.image_png.clear();
                fresh.image_png.clear();
            }
            assert_eq!(relit, fresh, "{name}: all but the images");
        }
        // Two triangles of one plane that share a pixel are each as far away as their own part of it.
        let num_allowed = if name == "depth" { num_interior / 200 } else { 0 };
        assert!(
            num_interior > 5_000 && num_off <= num_allowed,
            "{name}: {num_off} of {num_interior}"
        );
        let [relit, stored] = [at("relit"), stored].map(|dir| Manifest::read(&dir).unwrap());
        assert_eq!((relit.parent, relit.is_relit), (stored.sha256, true));
        assert_eq!(
            (&relit.skipped, relit.source),
            (&stored.skipped, stored.source),
            "{name}"
        );
        assert_eq!(stored.skipped.len(), 1, "the broken one");
        let proof = verify(&at("relit"), VerifyOptions { is_deep: true }, &mut |_| {}).unwrap();
        assert!(proof.is_ok(), "{name}: {:?}", proof.problems);
    }
}

#[test]
fn real_meshes_give_the_pictures_of_a_fresh_build() {
    let Some(data) = std::env::var_os("TAP_REAL_DATA").map(PathBuf::from) else {
        return;
    };
    let (source, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let category = source.path().join("vehicle");
    fs::create_dir(&category).unwrap();
    for file in fs::read_dir(data.join("meshes/vehicle")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), category.join(file.file_name())).unwrap();
    }
    let at = |name| out.path().join(name);
    let lighting = Lighting::three_point();
    let [stored, fresh] =
        [("stored", Lighting::textured()), ("fresh", lighting.clone())].map(|(name, light)| {
            let mut recipe = recipe_with(light, true);
            recipe.render.size_px = 224;
            build_with(source.path(), &recipe, at(name))
        });
    relight_to(&stored, &lighting, &at("relit"), 2).unwrap();
    let [mut num_interior, mut num_off] = [0; 2];
    let [mut num_covered, mut num_rough] = [0; 2];
    for (relit, fresh) in rows(&at("relit")).iter().zip(rows(&fresh)) {
        for (relit, fresh) in relit.views.iter().zip(&fresh.views) {
            let [interior, off] = compare(relit, fresh);
            (num_interior, num_off) = (num_interior + interior, num_off + off);
            let [covered, rough] = compare_all(relit, fresh);
            (num_covered, num_rough) = (num_covered + covered, num_rough + rough);
        }
    }
    // Including edges: a tenth of the pixels see several faces.
    assert!(
        num_rough * ONE_ROUGH_IN <= num_covered,
        "{num_rough} of {num_covered}"
    );
    // Features thinner than a pixel may be seen by some of its samples but not by its center.
    assert!(
        num_interior > 1_000_000 && num_off * ONE_FREE_IN <= num_interior,
        "{num_off} of {num_interior}"
    );
}

#[test]
fn a_gbuffer_changes_no_other_column() {
    let (source, out) = (colored_boxes(), tempfile::tempdir().unwrap());
    for lighting in [Lighting::mvcnn(), Lighting::textured()] {
        let at = |detail: &str| out.path().join(format!("{detail} {:?}", lighting.material));
        let plain = build_with(source.path(), &recipe_with(lighting.clone(), false), at("plain"));
        let stored = build_with(source.path(), &recipe_with(lighting.clone(), true), at("stored"));
        let mut rows_of_stored = rows(&stored);
        for view in rows_of_stored.iter_mut().flat_map(|row| &mut row.views) {
            let gbuffer = view.gbuffer.take().unwrap();
            assert_eq!(
                gbuffer.albedo_png.is_some(),
                lighting.material == MaterialChoice::Own
            );
        }
        assert_eq!(rows_of_stored, rows(&plain));
    }
}

#[test]
fn whatever_the_threads_and_however_often_stopped_the_bytes_are_the_same() {
    let (source, out) = (colored_boxes(), tempfile::tempdir().unwrap());
    let stored = build_with(
        source.path(),
        &recipe_with(Lighting::textured(), true),
        out.path().join("stored"),
    );
    let [one, three, stopped] = ["one", "three", "stopped"].map(|name| out.path().join(name));
    let lighting = Lighting::three_point();
    relight_to(&stored, &lighting, &one, 1).unwrap();
    relight_to(&stored, &lighting, &three, 3).unwrap();
    assert_eq!(bytes(&one), bytes(&three), "whatever the number of threads");

    let options = RelightOptions {
        out: stopped.clone(),
        images_only: false,
        workers: 2,
        force: false,
    };
    let cancel = AtomicBool::new(false);
    let num_shards = AtomicUsize::new(0);
    let report = relight(&stored, &lighting, &options, &cancel, &mut |event| {
        if let BuildEvent::ShardWritten { .. } = event {
            num_shards.fetch_add(1, Ordering::Relaxed);
            cancel.store(true, Ordering::Relaxed);
        }
    });
    assert_eq!((report.unwrap(), num_shards.into_inner()), (None, 1));
    Dataset::open(&stopped).unwrap_err();
    relight_to(&stored, &lighting, &stopped, 2).unwrap();
    assert_eq!(bytes(&stopped), bytes(&one), "after a stop");

    fs::write(stopped.join("train-00001-of-00003.parquet"), "gone").unwrap();
    relight_to(&stored, &lighting, &stopped, 2).unwrap();
    assert_eq!(bytes(&stopped), bytes(&one), "after damage");

    let error = relight_to(&stored, &Lighting::random(1), &one, 1).unwrap_err();
    assert!(
        matches!(error, DatasetError::Build(BuildError::PlanMismatch { .. })),
        "{error}"
    );
}

#[test]
fn what_was_relit_is_relit_again() {
    let (source, out) = (colored_boxes(), tempfile::tempdir().unwrap());
    let [stored, white, back, direct] =
        ["stored", "white", "back", "direct"].map(|name| out.path().join(name));
    build_with(
        source.path(),
        &recipe_with(Lighting::textured(), true),
        stored.clone(),
    );
    relight_to(&stored, &Lighting::hemisphere(), &white, 2).unwrap();
    let columns = Manifest::read(&white).unwrap().layout.columns;
    assert_eq!(
        columns,
        Columns::DEFAULT.with(ColumnSet::GbufferAlbedo),
        "colors stay, though none are seen"
    );
    assert_eq!(rows(&white)[0].views[0].image_png[25], 0, "white is gray");
    relight_to(&white, &Lighting::three_point(), &back, 2).unwrap();
    relight_to(&stored, &Lighting::three_point(), &direct, 2).unwrap();
    for (back, direct) in rows(&back).iter().zip(rows(&direct)) {
        for (back, direct) in back.views.iter().zip(&direct.views) {
            let [num_interior, num_off] = compare(back, direct);
            assert!(
                num_interior > 100 && num_off == 0,
                "the way there leaves no trace"
            );
        }
    }
}

/// The colored boxes with their G-buffer.
fn stored_boxes(out: &Path) -> PathBuf {
    build_with(
        colored_boxes().path(),
        &recipe_with(Lighting::textured(), true),
        out.join("stored"),
    )
}

fn add_images(dir: &Path, name: &str, force: bool) -> Result<Option<RelightReport>, DatasetError> {
    let options = RelightOptions {
        out: image_set_dir(dir, name)?,
        images_only: true,
        workers: 2,
        force,
    };
    let lighting = Lighting::three_point();
    relight(dir, &lighting, &options, &AtomicBool::new(false), &mut |_| {})
}

#[test]
fn images_are_added_beside_the_rows() {
    let out = tempfile::tempdir().unwrap();
    let (stored, copy) = (stored_boxes(out.path()), out.path().join("copy"));
    let before = bytes(&stored);
    add_images(&stored, "night", false).unwrap();
    assert_eq!(image_sets(&stored).unwrap(), ["night"]);

    // The images of a relit dataset, without a second copy of the rows.
    relight_to(&stored, &Lighting::three_point(), &copy, 2).unwrap();
    let read = |dataset: &Dataset, row, views| dataset.read(Split::Train, row, views).unwrap();
    let own = Dataset::open(&stored).unwrap();
    let night = Dataset::open(&stored).unwrap().with_images("night").unwrap();
    let copy = Dataset::open(&copy).unwrap();
    assert_ne!(night.sha256(), own.sha256(), "other data, another name");
    for row in 0..own.len(Split::Train) {
        let all = read(&night, row, ViewSelection::All);
        assert_eq!(all, read(&copy, row, ViewSelection::All));
        let some = read(&night, row, ViewSelection::Some(&[7, 2]));
        assert_eq!(some.views, [all.views[7].clone(), all.views[2].clone()]);
        let none = [&night, &own].map(|dataset| read(dataset, row, ViewSelection::None));
        assert_eq!(none[0], none[1]);
    }
    for (name, bytes_before) in &before {
        assert_eq!(
            fs::read(stored.join(name)).unwrap(),
            *bytes_before,
            "nothing finished is rewritten"
        );
    }
    let length = |file: PathBuf| fs::metadata(file).unwrap().len();
    let set = image_set_dir(&stored, "night").unwrap();
    assert!(
        length(set.join(IMAGE_SHARD)) * 3 < length(stored.join(SHARD)),
        "images only"
    );
}

/// Gives a folder the names, and its manifest the form, of schema version 3.
fn rename_to_version_3(dir: &Path) {
    let mut manifest = Manifest::read(dir).unwrap();
    manifest.schema_version = 3;
    for shard in &mut manifest.shards {
        let old = shard.file.replace(".pq", ".parquet");
        fs::rename(dir.join(&shard.file), dir.join(&old)).unwrap();
        shard.file = old;
    }
    manifest.sha256 = Some(manifest.shards_sha256());
    let json = serde_json::to_vec(&manifest).unwrap();
    fs::write(dir.join("manifest.json"), json).unwrap();
    fs::remove_file(dir.join("_manifest.json")).unwrap();
}

#[test]
fn a_dataset_is_read_under_the_names_of_earlier_versions() {
    let out = tempfile::tempdir().unwrap();
    let stored = stored_boxes(out.path());
    add_images(&stored, "night", false).unwrap();
    rename_to_version_3(&image_set_dir(&stored, "night").unwrap());
    fs::rename(stored.join("__images"), stored.join("images")).unwrap();
    rename_to_version_3(&stored);

    assert_eq!(image_sets(&stored).unwrap(), ["night"]);
    Dataset::open(&stored).unwrap().with_images("night").unwrap();
    let report = verify(&stored, VerifyOptions { is_deep: true }, &mut |_| {}).unwrap();
    assert_eq!(report.problems, []);

    // Another set goes where sets are today; the build itself goes on under today's names.
    add_images(&stored, "day", false).unwrap();
    assert!(stored.join("__images/day").is_dir());
    assert_eq!(image_sets(&stored).unwrap(), ["day", "night"]);
}

#[test]
fn damage_to_added_images_is_found_and_mended() {
    let out = tempfile::tempdir().unwrap();
    let stored = stored_boxes(out.path());
    add_images(&stored, "night", false).unwrap();
    let set = image_set_dir(&stored, "night").unwrap();
    let shard = set.join(IMAGE_SHARD);
    let whole = fs::read(&shard).unwrap();

    let problems = || {
        let report = verify(&stored, VerifyOptions { is_deep: true }, &mut |_| {});
        report.unwrap().problems
    };
    assert_eq!(problems(), []);
    for place in [4_usize, whole.len() / 3, whole.len() / 2, whole.len() - 9] {
        let mut flipped = whole.clone();
        flipped[place] ^= 4;
        fs::write(&shard, flipped).unwrap();
        let first = problems().first().map(|problem| problem.file.clone());
        assert_eq!(
            first,
            Some(format!("__images/night/{IMAGE_SHARD}")),
            "a bit of byte {place}"
        );
    }
    fs::write(&shard, "cut").unwrap();
    let open = || Dataset::open(&stored).unwrap();
    assert!(open().with_images("night").is_err(), "a cut shard");
    add_images(&stored, "night", false).unwrap();
    assert_eq!(fs::read(&shard).unwrap(), whole, "made again");

    let error = |result: Result<Dataset, DatasetError>| result.unwrap_err().to_string();
    assert!(
        error(open().with_images("day")).contains("there are: night"),
        "no such set"
    );
    assert!(
        error(Dataset::open(&set)).contains("another dataset"),
        "no dataset by itself"
    );
    for name in ["", "..", "a/b"] {
        assert!(add_images(&stored, name, false).is_err(), "{name}");
    }

    // Rows that changed since have no images in the set.
    let other = BuildRecipe {
        seed: 7,
        ..recipe_with(Lighting::textured(), true)
    };
    let other = build_with(colored_boxes().path(), &other, out.path().join("other"));
    fs::rename(stored.join("__images"), other.join("__images")).unwrap();
    fs::remove_dir_all(&stored).unwrap();
    fs::rename(other, &stored).unwrap();
    assert!(
        error(open().with_images("night")).contains("of another dataset"),
        "the rows are others"
    );
    assert!(
        problems()[0].detail.contains("of another dataset"),
        "{:?}",
        problems()
    );
    add_images(&stored, "night", true).unwrap();
    assert_eq!(problems(), []);
}

#[test]
fn lightings_that_a_gbuffer_cannot_do_are_refused_by_name() {
    let (source, out) = (colored_boxes(), tempfile::tempdir().unwrap());
    let [plain, stored, relit] = ["plain", "stored", "relit"].map(|name| out.path().join(name));
    build_with(
        source.path(),
        &recipe_with(Lighting::mvcnn(), false),
        plain.clone(),
    );
    build_with(
        source.path(),
        &recipe_with(Lighting::mvcnn(), true),
        stored.clone(),
    );
    let error =
        |parent: &Path, lighting: Lighting| relight_to(parent, &lighting, &relit, 1).unwrap_err().to_string();
    for (message, expected) in [
        (error(&plain, Lighting::hemisphere()), ["--meshes", "--gbuffer"]),
        (
            error(&stored, Lighting::three_point()),
            ["own colors", "--lighting textured"],
        ),
        (
            error(&stored, Lighting::mvcnn_2015()),
            ["smooth normals", "normals=smooth"],
        ),
    ] {
        assert!(expected.iter().all(|part| message.contains(part)), "{message}");
    }
    assert!(!relit.exists(), "nothing was begun");

    let shard = stored.join(SHARD);
    let mut damaged = fs::read(&shard).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&shard, damaged).unwrap();
    let message = error(&stored, Lighting::hemisphere());
    assert!(message.contains("stored"), "damage does not spread: {message}");
}
