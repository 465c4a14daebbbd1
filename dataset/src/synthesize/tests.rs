#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "what a bound is chosen by")]

use std::collections::{BTreeMap, BTreeSet};

use tap_render::{
    Mesh,
    import::{MeshFormat, NoAssets, import_mesh},
};

use super::*;

fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(
                    path.strip_prefix(root).unwrap().to_owned(),
                    fs::read(&path).unwrap(),
                );
            }
        }
    }
    files
}

fn make(out: &Path, change: impl FnOnce(&mut SynthesizeOptions)) -> Result<SynthesizeSummary> {
    let mut options = SynthesizeOptions {
        classes: 3,
        per_class: 5,
        ..SynthesizeOptions::new(out)
    };
    change(&mut options);
    synthesize(&options, &mut |_| {})
}

#[test]
fn the_seed_decides_every_byte() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b, c, more] = ["a", "b", "c", "more"].map(|name| folder.path().join(name));
    make(&a, |_| {}).unwrap();
    make(&b, |_| {}).unwrap();
    make(&c, |options| options.seed = 1).unwrap();
    make(&more, |options| (options.classes, options.per_class) = (5, 7)).unwrap();
    let (first, second, other, more) = (files(&a), files(&b), files(&c), files(&more));
    assert!(first == second && first.len() == 2 * 15 + 3);
    let is_obj = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "obj");
    let same = first
        .keys()
        .filter(is_obj)
        .filter(|path| other[*path] == first[*path])
        .count();
    assert_eq!(same, 0, "another seed gives other objects");
    assert!(
        first.keys().filter(is_obj).all(|path| more[path] == first[path]),
        "objects don't depend on each other"
    );
    let distinct: BTreeSet<&Vec<u8>> = first
        .iter()
        .filter(|(path, _)| is_obj(path))
        .map(|(_, bytes)| bytes)
        .collect();
    assert_eq!(distinct.len(), 15, "every object differs");
}

#[test]
fn the_layout_is_that_of_shapenet() {
    let folder = tempfile::tempdir().unwrap();
    let mut events = Vec::new();
    let options = SynthesizeOptions {
        classes: 2,
        per_class: 10,
        ..SynthesizeOptions::new(folder.path())
    };
    let summary = synthesize(&options, &mut |event| events.push(event)).unwrap();
    assert_eq!((summary.num_objects, events.len()), (20, 21));
    assert_eq!(
        events[1],
        SynthesizeEvent::Done {
            id: "chair/chair_0000".to_owned()
        }
    );
    assert!(folder.path().join("03001627/chair_0009/model.mtl").is_file());
    let json = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(folder.path().join(name)).unwrap()).unwrap()
    };
    assert_eq!(json("taxonomy.json")[1]["name"], "table");
    assert_eq!(json("parts.json")["chair"], json!(["arm", "back", "leg", "seat"]));
    let splits = fs::read_to_string(folder.path().join("split.csv")).unwrap();
    for class in ["chair", "table"] {
        let rows = |split: &str| {
            splits
                .lines()
                .filter(|line| line.ends_with(&format!(",{class},{split}")))
                .count()
        };
        assert_eq!((rows("train"), rows("test")), (8, 2));
    }
}

#[test]
fn a_folder_with_files_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mine = folder.path().join("03001627/mine.txt");
    fs::create_dir_all(mine.parent().unwrap()).unwrap();
    fs::write(&mine, "mine").unwrap();
    assert!(
        make(folder.path(), |_| {})
            .unwrap_err()
            .to_string()
            .contains("force")
    );
    assert_eq!(files(folder.path()).len(), 1);
    make(folder.path(), |options| {
        (options.force, options.per_class) = (true, 8);
    })
    .unwrap();
    make(folder.path(), |options| options.force = true).unwrap();
    assert_eq!(fs::read(&mine).unwrap(), b"mine");
    assert_eq!(
        files(folder.path()).len(),
        1 + 2 * 15 + 3,
        "objects of the larger run are gone"
    );
    assert!(
        make(folder.path(), |options| (options.force, options.classes) =
            (true, 99))
        .is_err()
    );
    let huge = make(&folder.path().join("huge"), |options| {
        options.per_class = usize::MAX;
    });
    assert!(huge.unwrap_err().to_string().contains("1 to 1000000 objects"));
    assert!(!folder.path().join("huge").exists(), "nothing half-made");
}

#[test]
fn a_new_folder_is_whole_or_absent() {
    let folder = tempfile::tempdir().unwrap();
    let (out, partial) = (folder.path().join("a"), folder.path().join("a.partial"));
    // As a killed run leaves it.
    make(&partial, |options| options.per_class = 7).unwrap();
    fs::remove_file(partial.join("split.csv")).unwrap();
    make(&out, |_| {}).unwrap();
    assert!(!partial.exists(), "it was taken away");
    assert_eq!(
        files(&out).len(),
        2 * 15 + 3,
        "and nothing of it is in the new one"
    );

    fs::create_dir_all(&partial).unwrap();
    fs::write(partial.join("mine.txt"), "mine").unwrap();
    let other = folder.path().join("a");
    fs::rename(&other, folder.path().join("b")).unwrap();
    let text = make(&out, |_| {}).unwrap_err().to_string();
    assert!(text.contains("mine.txt"), "{text}");
    assert_eq!(fs::read(partial.join("mine.txt")).unwrap(), b"mine");
}

/// Lower bounds of what a network has to beat are in docs/datasets.md, "Synthesized stand-ins".
#[test]
fn histograms_of_distances_do_not_tell_varied_categories_apart() {
    let [basic, varied] = [ShapeFamily::Basic, ShapeFamily::Varied].map(|family| {
        let categories = family.categories();
        let histograms: Vec<(usize, [f64; NUM_BINS])> = categories
            .iter()
            .enumerate()
            .flat_map(|(class, category)| (0..16).map(move |index| (class, category, index)))
            .map(|(class, category, index)| {
                let (object, _) = generator(family, true).object(category, index);
                (class, distance_histogram(&object, index as u64))
            })
            .collect();
        let num_right = (0..histograms.len()).filter(|&query| {
            let others = (0..histograms.len()).filter(|&other| other != query);
            let distance = |other: &usize| {
                let pairs = histograms[query].1.iter().zip(&histograms[*other].1);
                pairs.map(|(a, b)| (a - b).abs()).sum::<f64>()
            };
            let nearest = others.min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap();
            histograms[nearest].0 == histograms[query].0
        });
        num_right.count() as f64 / histograms.len() as f64
    });
    println!("nearest histogram of distances: basic {basic:.3}, varied {varied:.3}");
    assert!(varied < 0.4, "varied {varied}");
    assert!(varied > 1.5 / 24.0, "the histograms say something: {varied}");
    assert!(basic > varied, "{basic} and {varied}");
}

const NUM_BINS: usize = 32;

/// Distances between random points of the surface (D2 of Osada and others), of unit mass, up to the longest.
fn distance_histogram(object: &Object, seed: u64) -> [f64; NUM_BINS] {
    let mesh = import_mesh(MeshFormat::Obj, object.to_obj().as_bytes(), &NoAssets).unwrap();
    let points = crate::surface::sample_surface(&mesh, crate::surface::Sampler::Uniform, 512, seed).points;
    let pairs = || (0..points.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
    let distances: Vec<f32> = pairs().map(|(a, b)| points[a].distance(points[b])).collect();
    let longest = distances.iter().copied().fold(0.0, f32::max);
    let mut histogram = [0.0; NUM_BINS];
    for distance in &distances {
        let bin = (distance / longest * NUM_BINS as f32) as usize;
        histogram[bin.min(NUM_BINS - 1)] += 1.0 / distances.len() as f64;
    }
    histogram
}

/// The categories of both families.
fn all() -> impl Iterator<Item = (ShapeFamily, &'static Category)> {
    [ShapeFamily::Basic, ShapeFamily::Varied]
        .into_iter()
        .flat_map(|family| family.categories().iter().map(move |category| (family, category)))
}

fn generator(family: ShapeFamily, random_yaw: bool) -> ShapeGenerator {
    ShapeGenerator {
        family,
        purpose: "",
        seed: 7,
        random_yaw,
    }
}

#[test]
fn objects_are_sound() {
    for (family, category) in all() {
        let mut seen = BTreeSet::new();
        let mut triangles = Vec::new();
        for index in 0..60 {
            let (object, _) = generator(family, index % 2 == 0).object(category, index);
            for (part, solid) in object.parts() {
                assert!(
                    category.parts.contains(part),
                    "{}: unlisted part {part}",
                    category.name
                );
                seen.insert(*part);
                assert!(
                    solid.volume() > 0.0,
                    "{} {index}: {part} is inside out",
                    category.name
                );
            }
            let obj = object.to_obj();
            let mesh = import_mesh(MeshFormat::Obj, obj.as_bytes(), &NoAssets).unwrap();
            triangles.push(mesh.triangles().len());
            assert!(
                edges_match(&mesh),
                "{} {index} has open or flipped edges",
                category.name
            );
            let (low, high) = mesh.bounds();
            assert!(
                ((high - low).length() - 1.0).abs() < 1e-3,
                "{} {index}",
                category.name
            );
        }
        assert_eq!(
            seen,
            category.parts.iter().copied().collect(),
            "{}: parts",
            category.name
        );
        assert!(
            category.parts.is_sorted(),
            "{}: part names are sorted",
            category.name
        );
        let (fewest, most) = (triangles.iter().min().unwrap(), triangles.iter().max().unwrap());
        assert!(
            (150..=2600).contains(fewest) && (150..=2600).contains(most),
            "{}: {fewest} to {most} triangles",
            category.name
        );
    }
}

/// Whether each part is closed and consistently wound: every edge is used equally often in both directions.
fn edges_match(mesh: &Mesh) -> bool {
    let mut balance: BTreeMap<(u16, [u32; 2]), i32> = BTreeMap::new();
    for (&[a, b, c], &part) in mesh.triangles().iter().zip(mesh.part_of_triangle()) {
        for [from, to] in [[a, b], [b, c], [c, a]] {
            *balance.entry((part, [from.min(to), from.max(to)])).or_default() +=
                if from < to { 1 } else { -1 };
        }
    }
    mesh.num_degenerate() == 0 && balance.values().all(|&balance| balance == 0)
}
