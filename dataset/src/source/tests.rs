#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write as _;
#[cfg(unix)]
use std::process::Command;

use super::*;
#[cfg(unix)]
use crate::error::error_chain;

/// A folder with these files: empty ones, then ones with content.
fn folder(empty: &[&str], full: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in empty
        .iter()
        .map(|path| (path, &""))
        .chain(full.iter().map(|(path, content)| (path, content)))
    {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

fn open(path: &Path, options: &SourceOptions) -> Source {
    Source::open(path, options).unwrap()
}

fn found(source: &Source) -> Vec<String> {
    source
        .objects()
        .iter()
        .map(|o| format!("{} {} {}", o.split, o.id, slash_path(&o.path)))
        .collect()
}

fn skipped(source: &Source) -> Vec<String> {
    source
        .skipped()
        .iter()
        .map(|s| format!("{} {}", s.id, s.reason))
        .collect()
}

#[test]
fn folders_hold_meshes_beside_other_files() {
    let dir = folder(
        &[
            "chair/b.obj",
            "chair/b.mtl",
            "chair/b.png",
            "chair/a.glb",
            "lamp/c.OFF",
            "LICENSE.md",
            "lamp/.hidden.obj",
        ],
        &[],
    );
    let source = open(dir.path(), &SourceOptions::default());
    assert_eq!(source.layout(), Layout::Folders.to_string());
    assert!(source.notes()[0].contains("folders"), "{:?}", source.notes());
    assert_eq!(
        found(&source),
        [
            "train chair/a chair/a.glb",
            "train chair/b chair/b.obj",
            "train lamp/c lamp/c.OFF"
        ]
    );
    assert_eq!(source.classes(), ["chair", "lamp"]);
    assert_eq!(source.label_of("lamp"), 1);
    assert!(source.skipped().is_empty(), "{:?}", source.skipped());
}

#[test]
fn what_cannot_become_a_row_is_listed() {
    let dir = folder(&["chair/a.obj", "chair/a.off", "chair/b.fbx"], &[]);
    #[cfg(unix)]
    std::os::unix::fs::symlink("/etc/hostname", dir.path().join("chair/c.obj")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("nowhere", dir.path().join("chair/d.obj")).unwrap();
    let source = open(dir.path(), &SourceOptions::default());
    assert_eq!(found(&source), ["train chair/a chair/a.obj"]);
    let mut expected = vec!["chair/a duplicate-id", "chair/b unsupported-format"];
    if cfg!(unix) {
        expected.extend(["chair/c outside-source", "chair/d missing"]);
    }
    assert_eq!(skipped(&source), expected);
}

#[test]
fn a_split_list_rules_and_mismatches_are_reported() {
    let list = "id,category,split\na,chair,test\nb,chair,train\nlost,chair,val\nother,plane,train\n";
    let dir = folder(
        &["chair/a.obj", "chair/b.obj", "chair/c.obj"],
        &[("lists/my.csv", list)],
    );
    let splits = Some(dir.path().join("lists/my.csv"));
    let source = open(
        dir.path(),
        &SourceOptions {
            splits,
            ..SourceOptions::default()
        },
    );
    assert_eq!(
        found(&source),
        ["train chair/b chair/b.obj", "test chair/a chair/a.obj"]
    );
    assert_eq!(
        skipped(&source),
        ["chair/c not-in-splits", "chair/lost missing"],
        "planes are not there at all"
    );
    assert_eq!(
        source.describe().num_objects,
        3,
        "what is left out on purpose is no object"
    );
}

#[test]
fn a_split_list_in_the_source_is_used_by_default() {
    let dir = folder(&["chair/a.obj"], &[("split.csv", "id,split\nchair/a,test\n")]);
    let source = open(dir.path(), &SourceOptions::default());
    assert_eq!(found(&source), ["test chair/a chair/a.obj"]);
    assert!(
        source.notes().iter().any(|note| note.contains("split.csv")),
        "{:?}",
        source.notes()
    );
}

#[test]
fn a_malformed_list_is_an_error_with_its_line() {
    let contents = [
        ("id,category\na,chair\n", "split"),
        ("id,category,split\na,chair,training-ish\n", "line 2"),
        ("id,category,split\na,chair,train\na,chair,test\n", "line 3"),
    ];
    for (content, expected) in contents {
        let dir = folder(&["chair/a.obj"], &[("split.csv", content)]);
        let error = Source::open(dir.path(), &SourceOptions::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn shapenet_of_both_versions_with_names_and_splits() {
    let taxonomy = r#"[
        {"synsetId": "02691156", "name": "airplane,aeroplane,plane", "children": [], "numInstances": 2},
        {"synsetId": "03001627", "name": "chair", "children": [], "numInstances": 1},
        {"synsetId": "04379243", "name": "table", "children": [], "numInstances": 9}]"#;
    let all = "id,synsetId,subSynsetId,modelId,split\n1,02691156,x,aaa,train\n2,2691156,x,bbb,test\n3,03001627,x,ccc,val\n";
    let dir = folder(
        &[
            "02691156/aaa/model.obj",
            "02691156/bbb/models/model_normalized.obj",
            "03001627/ccc/model.obj",
            "03001627/ddd/images/t.jpg",
        ],
        &[("taxonomy.json", taxonomy), ("split.csv", all)],
    );
    let source = open(dir.path(), &SourceOptions::default());
    assert_eq!(source.layout(), Layout::Shapenet.to_string());
    assert_eq!(
        found(&source),
        [
            "train airplane/aaa 02691156/aaa/model.obj",
            "val chair/ccc 03001627/ccc/model.obj",
            "test airplane/bbb 02691156/bbb/models/model_normalized.obj",
        ]
    );
    assert_eq!(source.classes(), ["airplane", "chair"]);
    assert_eq!(
        skipped(&source),
        ["chair/ddd missing"],
        "a folder of textures alone"
    );
}

#[test]
fn shapenet_without_names_keeps_synsets_and_duplicates_get_them() {
    let dir = folder(&["02691156/a/model.obj", "03001627/b/model.obj"], &[]);
    assert_eq!(
        open(dir.path(), &SourceOptions::default()).classes(),
        ["02691156", "03001627"]
    );
    let twins = r#"[{"synsetId": "02691156", "name": "can"}, {"synsetId": "03001627", "name": "can,tin"}]"#;
    fs::write(dir.path().join("taxonomy.json"), twins).unwrap();
    assert_eq!(
        open(dir.path(), &SourceOptions::default()).classes(),
        ["can-02691156", "can-03001627"]
    );
}

#[test]
fn modelnet_splits_by_folder() {
    let dir = folder(
        &[
            "chair/train/chair_0001.off",
            "chair/test/chair_0002.off",
            "night_stand/train/n_1.off",
        ],
        &[],
    );
    let source = open(dir.path(), &SourceOptions::default());
    assert_eq!(source.layout(), Layout::Modelnet.to_string());
    assert_eq!(
        found(&source),
        [
            "train chair/chair_0001 chair/train/chair_0001.off",
            "train night_stand/n_1 night_stand/train/n_1.off",
            "test chair/chair_0002 chair/test/chair_0002.off",
        ]
    );
}

#[test]
fn a_table_names_meshes_and_stays_in_its_folder() {
    let table = "path,category,split,id\nmeshes/a.obj,chair,test,one\nmeshes/b.obj,chair,,\n../secret.obj,chair,,\n/etc/passwd.obj,chair,,p\nmeshes/gone.obj,lamp,,\n";
    let dir = folder(
        &["in/meshes/a.obj", "in/meshes/b.obj", "secret.obj"],
        &[("in/list.csv", table)],
    );
    let source = open(&dir.path().join("in/list.csv"), &SourceOptions::default());
    assert_eq!(source.layout(), Layout::Csv.to_string());
    assert_eq!(
        found(&source),
        ["train chair/b meshes/b.obj", "test chair/one meshes/a.obj"]
    );
    assert_eq!(
        skipped(&source),
        [
            "chair/p outside-source",
            "chair/secret outside-source",
            "lamp/gone missing"
        ]
    );
    let error = |content: &str| {
        fs::write(dir.path().join("in/list.csv"), content).unwrap();
        Source::open(&dir.path().join("in/list.csv"), &SourceOptions::default())
            .unwrap_err()
            .to_string()
    };
    assert!(
        error("file,category\na,b\n").contains("\"path\""),
        "no such column"
    );
    assert!(
        error("path,category\na\n").contains("comma-separated"),
        "a short row"
    );
    assert!(error("path,category\n").contains("no object"), "no row");
}

/// Opening a pipe would wait for a writer.
#[cfg(unix)]
#[test]
fn a_table_that_is_no_regular_file_or_too_large_is_refused() {
    let dir = folder(&["x.obj"], &[]);
    let error = |name: &str| {
        let options = SourceOptions {
            splits: Some(dir.path().join(name)),
            ..SourceOptions::default()
        };
        Source::open(dir.path(), &options).unwrap_err()
    };
    let pipe = dir.path().join("pipe.csv");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let said = |name: &str| error_chain(&error(name));
    assert!(
        said("pipe.csv").contains("not a regular file"),
        "{}",
        said("pipe.csv")
    );
    let large = fs::File::create(dir.path().join("large.csv")).unwrap();
    large.set_len((1 << 32) + 1).unwrap();
    assert!(said("large.csv").contains("more than 4294967296 bytes"));
}

#[test]
fn a_long_table_is_read_to_its_end() {
    let dir = folder(&["x.obj"], &[]);
    let path = dir.path().join("list.csv");
    let num_rows = 20_000;
    let row = |number: usize| format!("x.obj,chair,{number:05},{}\n", ["train", "test"][number % 2]);
    let rows: String = (0..num_rows).rev().map(row).collect();
    let table = format!("path,category,id,split\n{rows}");
    fs::write(&path, &table).unwrap();
    let source = open(&path, &SourceOptions::default());
    let objects = source.objects();
    assert_eq!(objects.len(), num_rows);
    let ids = |place: usize| objects.get(place).id.to_string();
    assert_eq!(
        [
            ids(0),
            ids(num_rows / 2 - 1),
            ids(num_rows / 2),
            ids(num_rows - 1)
        ],
        ["chair/00000", "chair/19998", "chair/00001", "chair/19999"]
    );
    fs::write(&path, table + "x.obj,chair,last,nowhere\n").unwrap();
    let error = Source::open(&path, &SourceOptions::default()).unwrap_err();
    assert!(error.to_string().contains("line 20002"), "{error}");
}

#[test]
fn an_empty_or_absent_source_is_an_error() {
    let dir = folder(&["readme.txt"], &[]);
    let error = Source::open(dir.path(), &SourceOptions::default()).unwrap_err();
    assert!(
        matches!(error, DatasetError::Source(SourceError::NoObjects { .. })),
        "{error}"
    );
    let error = Source::open(&dir.path().join("nowhere"), &SourceOptions::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn the_listing_knows_lengths_and_not_the_place() {
    let (one, two) = (folder(&["a/b.obj"], &[]), folder(&["a/b.obj"], &[]));
    let describe = |dir: &tempfile::TempDir| open(dir.path(), &SourceOptions::default()).describe();
    assert_eq!(describe(&one), describe(&two));
    fs::write(two.path().join("a/b.obj"), "longer").unwrap();
    assert_ne!(describe(&one), describe(&two));
}

#[test]
fn layouts_parse_what_they_print() {
    for layout in [
        Layout::Auto,
        Layout::Shapenet,
        Layout::Modelnet,
        Layout::Folders,
        Layout::Shrec16,
        Layout::Objaverse,
        Layout::Csv,
    ] {
        assert_eq!(layout.to_string().parse::<Layout>().unwrap(), layout);
    }
    "tarball".parse::<Layout>().unwrap_err();
}

#[test]
fn shapenet_versions_are_detected_and_known_gaps_are_not_failures() {
    let two = folder(
        &[
            "02958343/car/models/model_normalized.obj",
            "02958343/gap/images/t.jpg",
            "03001627/a/models/model_normalized.obj",
            "03001627/gap/models/model_normalized.mtl",
        ],
        &[],
    );
    fs::create_dir(two.path().join("02958343/void")).unwrap();
    let source = open(two.path(), &SourceOptions::default());
    assert!(
        source.describe().publication.unwrap().contains("ShapeNetCore v2"),
        "version 2"
    );
    assert_eq!(
        skipped(&source),
        [
            "02958343/gap not-published",
            "02958343/void not-published",
            "03001627/gap missing"
        ]
    );
    assert_eq!(source.describe().num_objects, 3, "what nobody has is no object");
    assert!(
        source.skipped()[1].message.contains("empty"),
        "{:?}",
        source.skipped()
    );
    let one = folder(&["02958343/car/model.obj", "02958343/gap/images/t.jpg"], &[]);
    let source = open(one.path(), &SourceOptions::default());
    assert!(
        source.describe().publication.unwrap().contains("ShapeNetCore v1"),
        "version 1"
    );
    assert_eq!(skipped(&source), ["02958343/gap missing"]);
}

#[test]
fn shrec_numbers_meshes_and_lists_synsets() {
    let dir = folder(
        &[
            "train/model_000003.obj",
            "train/model_000012.obj",
            "val/model_000007.off",
            "test/model_000009.obj",
        ],
        &[
            (
                "evalkit/train.csv",
                "id,synsetId,subSynsetId\n000003,02691156,x\n12,2691156,x\n",
            ),
            ("val.csv", "id,synsetId,subSynsetId\n000007,03001627,y\n"),
        ],
    );
    let source = open(dir.path(), &SourceOptions::default());
    assert_eq!(source.layout(), Layout::Shrec16.to_string());
    assert_eq!(
        found(&source),
        [
            "train 02691156/model_000003 train/model_000003.obj",
            "train 02691156/model_000012 train/model_000012.obj",
            "val 03001627/model_000007 val/model_000007.off",
            "test unlabeled/model_000009 test/model_000009.obj",
        ]
    );
    let lists = "train 2 (35765 were published), val 1 (5159 were published)";
    assert!(
        source.notes().iter().any(|note| note.contains(lists)),
        "{:?}",
        source.notes()
    );
}

#[test]
fn objaverse_gets_its_categories_from_the_annotations() {
    let dir = folder(
        &["glbs/000-000/aaa.glb", "glbs/000-023/bbb.glb"],
        &[(
            "lvis-annotations.json",
            r#"{"teapot": ["bbb", "ccc"], "zebra": ["bbb"]}"#,
        )],
    );
    let source = open(dir.path(), &SourceOptions::default());
    assert_eq!(source.layout(), Layout::Objaverse.to_string());
    assert_eq!(
        found(&source),
        [
            "train object/aaa glbs/000-000/aaa.glb",
            "train teapot/bbb glbs/000-023/bbb.glb"
        ]
    );
}

#[test]
fn ratios_are_exact_in_each_category_and_follow_from_the_seed() {
    let paths: Vec<String> = (0..20)
        .map(|i| format!("{}/{i}.obj", ["a", "b"][i % 2]))
        .collect();
    let dir = folder(&paths.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    let draw = |shares: &str, seed| {
        let split_ratios: SplitRatios = shares.parse().unwrap();
        let options = SourceOptions {
            split_ratios: Some(split_ratios.with_seed(seed)),
            ..SourceOptions::default()
        };
        open(dir.path(), &options)
    };
    let source = draw("0.7,0.1,0.2", 1);
    let count = |category: &str, split| {
        let objects = source.objects().iter();
        objects
            .filter(|o| o.id.category() == category && o.split == split)
            .count()
    };
    for category in ["a", "b"] {
        assert_eq!(
            Split::ALL.map(|split| count(category, split)),
            [7, 1, 2],
            "{category}"
        );
    }
    assert_eq!(found(&source), found(&draw("0.7,0.1,0.2", 1)));
    assert_ne!(found(&source), found(&draw("0.7,0.1,0.2", 2)));
    for text in ["0.8", "0.8,0.3", "1.2,-0.2", "a,b", "0.25,0.25,0.25,0.25"] {
        text.parse::<SplitRatios>().unwrap_err();
    }
}

/// A zip archive with these files.
fn archive(path: &Path, files: &[(&str, &str)]) {
    let mut zip = zip::ZipWriter::new(fs::File::create(path).unwrap());
    for (name, content) in files {
        let options = zip::write::FileOptions::default();
        zip.start_file(*name, options).unwrap();
        zip.write_all(content.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn archives_are_read_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meshes.zip");
    let files = [
        ("meshes/chair/a.obj", "mesh a"),
        ("meshes/chair/a.mtl", "material"),
        ("meshes/lamp/b.off", "mesh b"),
        ("meshes/split.csv", "id,split\nlamp/b,test\nchair/a,train\n"),
        ("meshes/../../evil.obj", "out"),
        ("/etc/evil.obj", "out"),
    ];
    archive(&path, &files);
    let source = open(&path, &SourceOptions::default());
    assert_eq!(
        found(&source),
        ["train chair/a chair/a.obj", "test lamp/b lamp/b.off"]
    );
    assert_eq!(source.read(&source.objects().get(0), 100).unwrap(), b"mesh a");
    let error = source.read(&source.objects().get(0), 5).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    let assets = source.assets(&source.objects().get(0), 100);
    assert_eq!(
        tap_render::import::AssetResolver::read(&assets, "a.mtl").unwrap(),
        b"material"
    );
    tap_render::import::AssetResolver::read(&assets, "../../split.csv").unwrap_err();

    // One archive per synset, with the taxonomy beside them.
    let dir = tempfile::tempdir().unwrap();
    for synset in ["02691156", "03001627"] {
        let mesh = format!("{synset}/x/models/model_normalized.obj");
        archive(&dir.path().join(format!("{synset}.zip")), &[(&mesh, "mesh")]);
    }
    fs::write(
        dir.path().join("taxonomy.json"),
        r#"[{"synsetId": "02691156", "name": "airplane,plane"}]"#,
    )
    .unwrap();
    let source = open(dir.path(), &SourceOptions::default());
    assert_eq!(source.layout(), Layout::Shapenet.to_string());
    assert_eq!(source.classes(), ["03001627", "airplane"]);

    // Not an archive, and a truncated one.
    let cut = dir.path().join("cut.zip");
    archive(&cut, &files);
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 30]).unwrap();
    let error = Source::open(&cut, &SourceOptions::default()).unwrap_err();
    assert!(
        matches!(error, DatasetError::Source(SourceError::Archive { .. })),
        "{error}"
    );
}

/// A megabyte of zeros takes a kilobyte in an archive; an entry that declares too small a size is rejected.
#[test]
fn an_archive_cannot_be_larger_than_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bomb.zip");
    archive(&path, &[("chair/a.obj", &"0".repeat(1 << 20))]);
    let mut bytes = fs::read(&path).unwrap();
    assert!(bytes.len() < 1 << 13, "a bomb");
    let source = open(&path, &SourceOptions::default());
    assert_eq!(
        source.objects().get(0).bytes,
        Some(1 << 20),
        "its length is known unread"
    );
    let error = source.read(&source.objects().get(0), 1 << 19).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    // The declared size, from 1 MiB to 1 KiB.
    let claimed = (1_u32 << 20).to_le_bytes();
    let places: Vec<usize> = (0..bytes.len() - 4)
        .filter(|&i| bytes[i..i + 4] == claimed)
        .collect();
    for place in places {
        bytes[place..place + 4].copy_from_slice(&1024_u32.to_le_bytes());
    }
    fs::write(&path, bytes).unwrap();
    let source = open(&path, &SourceOptions::default());
    source.read(&source.objects().get(0), 1 << 30).unwrap_err();
}

#[test]
fn a_table_may_be_parquet() {
    use arrow_array::{ArrayRef, RecordBatch, StringArray};

    let dir = folder(&["meshes/a.obj", "meshes/b.obj"], &[]);
    let column = |cells: [&str; 2]| Arc::new(StringArray::from(cells.to_vec())) as ArrayRef;
    let batch = RecordBatch::try_from_iter([
        ("path", column(["meshes/a.obj", "meshes/b.obj"])),
        ("label", column(["chair", "lamp"])),
        ("split", column(["test", ""])),
    ])
    .unwrap();
    let path = dir.path().join("list.parquet");
    let file = fs::File::create(&path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let source = open(&path, &SourceOptions::default());
    assert_eq!(source.layout(), Layout::Csv.to_string());
    assert_eq!(
        found(&source),
        ["train lamp/b meshes/b.obj", "test chair/a meshes/a.obj"]
    );
}

#[test]
fn layouts_parse_what_they_print_and_errors_list_their_names() {
    for name in Layout::VARIANTS {
        assert_eq!(name.parse::<Layout>().unwrap().to_string(), *name);
    }
    let error = "shapenets".parse::<Layout>().unwrap_err().to_string();
    assert!(
        error.contains("\"shapenets\"") && error.contains("auto, shapenet, modelnet"),
        "{error}"
    );
}

#[test]
#[cfg(unix)]
fn a_walk_finds_visible_files_and_stays_within_the_tree() {
    let outer = folder(&["outside/secret.obj"], &[]);
    let root = outer.path().join("source");
    for path in ["a/b/one.obj", "a/.hidden/two.obj", "three.obj", ".four.obj"] {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::write(root.join(path), "").unwrap();
    }
    for (target, link) in [
        (outer.path().join("outside"), "leak"),
        (root.clone(), "a/loop"),
        (root.join("nowhere"), "dangling"),
    ] {
        std::os::unix::fs::symlink(target, root.join(link)).unwrap();
    }
    let walk = |max_depth| Tree::open(&root).unwrap().walk(max_depth).unwrap();
    assert_eq!(walk(5), ["a/b/one.obj", "three.obj"].map(PathBuf::from));
    assert_eq!(walk(1), [PathBuf::from("three.obj")], "no deeper than asked");

    let zip = outer.path().join("source.zip");
    archive(
        &zip,
        &[
            ("x/a/b/one.obj", ""),
            ("x/a/.hidden/two.obj", ""),
            ("y/three.obj", ""),
        ],
    );
    let walk = |max_depth| Tree::open(&zip).unwrap().walk(max_depth).unwrap();
    assert_eq!(walk(5), ["x/a/b/one.obj", "y/three.obj"].map(PathBuf::from));
    assert_eq!(walk(1), [PathBuf::from("y/three.obj")]);
}

#[test]
fn every_mesh_becomes_an_object_or_is_listed() {
    let mixed = folder(
        &[
            "anise/anise_001/Scan/Scan.obj",
            "apple/apple_001/Scan/Scan.obj",
            "lone/a.obj",
            "lone/b.fbx",
            "top.obj",
            "logs/log.txt",
            "packed/more.zip",
        ],
        &[],
    );
    let source = open(mixed.path(), &SourceOptions::default());
    let top = mixed.path().file_name().unwrap().to_str().unwrap();
    let found =
        |source: &Source| -> Vec<String> { source.objects().iter().map(|o| o.id.to_string()).collect() };
    let mut expected = vec![
        "anise/anise_001-Scan-Scan".to_owned(),
        "apple/apple_001-Scan-Scan".to_owned(),
        "lone/a".to_owned(),
        format!("{top}/top"),
    ];
    expected.sort();
    assert_eq!(found(&source), expected);
    assert_eq!(skipped(&source), ["lone/b unsupported-format"]);
    assert!(
        source
            .notes()
            .iter()
            .any(|note| note.contains("in no folder (1)") && note.contains("anise/anise_001-Scan-Scan")),
        "{:?}",
        source.notes()
    );
    assert!(
        source.notes().iter().any(|note| note.contains("packed/more.zip")),
        "{:?}",
        source.notes()
    );

    let modelnet = folder(&["chair/train/a.off", "chair/extra/b.off", "c.off"], &[]);
    let source = open(modelnet.path(), &SourceOptions::default());
    assert_eq!(found(&source), ["chair/a"]);
    assert_eq!(
        skipped(&source),
        ["/c not-in-layout", "chair/extra/b not-in-layout"]
    );
    assert_eq!(source.describe().num_objects, 1, "a layout leaves out on purpose");

    let splits = folder(&["train/chair/a.obj", "test/chair/b.obj", "test/lamp/c.obj"], &[]);
    let source = open(splits.path(), &SourceOptions::default());
    let of_splits: Vec<String> = source
        .objects()
        .iter()
        .map(|o| format!("{} {}", o.split, o.id))
        .collect();
    assert_eq!(of_splits, ["train chair/a", "test chair/b", "test lamp/c"]);
}

#[test]
fn a_flat_folder_or_a_mesh_is_of_one_category() {
    let dir = folder(
        &[
            "flat/x.obj",
            "flat/y.obj",
            "gso/Cup/meshes/model.obj",
            "gso/Shoe/meshes/model.obj",
            "id/models/m.obj",
        ],
        &[],
    );
    let ids = |path: &str| -> Vec<String> {
        let source = open(&dir.path().join(path), &SourceOptions::default());
        source.objects().iter().map(|o| o.id.to_string()).collect()
    };
    assert_eq!(ids("flat"), ["flat/x", "flat/y"]);
    assert_eq!(ids("gso"), ["gso/Cup", "gso/Shoe"]);
    assert_eq!(ids("flat/x.obj"), ["flat/x"]);
    assert_eq!(ids("gso/Cup/meshes/model.obj"), ["gso/Cup"]);
    let zip = dir.path().join("set.zip");
    archive(&zip, &[("x.obj", ""), ("y.obj", "")]);
    assert_eq!(ids("set.zip"), ["set/x", "set/y"]);
}

#[test]
fn clutter_and_a_folder_around_the_set_hide_no_layout() {
    let synsets = [
        "02691156/aa/models/model_normalized.obj",
        "03001627/bb/models/model_normalized.obj",
    ];
    let beside = [
        vec!["__MACOSX/02691156/._x.obj"],
        vec!["logs/a.txt", "Thumbs.db", ".DS_Store"],
        vec!["mine/other.obj"],
    ];
    for clutter in beside {
        let dir = folder(&[&synsets[..], &clutter].concat(), &[]);
        let source = open(dir.path(), &SourceOptions::default());
        assert_eq!(source.layout(), Layout::Shapenet.to_string(), "{clutter:?}");
        assert_eq!(source.objects().len(), 2, "{clutter:?}");
        let explicit = SourceOptions {
            layout: Layout::Shapenet,
            ..SourceOptions::default()
        };
        assert_eq!(
            open(dir.path(), &explicit).skipped(),
            source.skipped(),
            "{clutter:?}"
        );
        assert!(
            source
                .skipped()
                .iter()
                .all(|s| s.reason == SkipReason::NotInLayout),
            "{clutter:?}"
        );
    }
    let nested = folder(
        &[
            "ShapeNetCore.v2/02691156/aa/models/model_normalized.obj",
            "readme.txt",
        ],
        &[(
            "taxonomy.json",
            r#"[{"synsetId": "02691156", "name": "airplane"}]"#,
        )],
    );
    let source = open(nested.path(), &SourceOptions::default());
    assert_eq!(
        found(&source),
        ["train airplane/aa 02691156/aa/models/model_normalized.obj"]
    );

    let zip = nested.path().join("mac.zip");
    archive(
        &zip,
        &[
            ("set/a/x.obj", ""),
            ("set/b/y.obj", ""),
            ("__MACOSX/set/a/._x.obj", ""),
        ],
    );
    assert_eq!(open(&zip, &SourceOptions::default()).classes(), ["a", "b"]);
}

#[test]
fn objaverse_xl_has_folders_beside_the_numbered_ones() {
    let dir = folder(
        &[
            "hf-objaverse-v1/glbs/000-023/bbb.glb",
            "smithsonian/objects/aaa.glb",
            "github/github.parquet",
        ],
        &[],
    );
    let source = open(dir.path(), &SourceOptions::default());
    let ids: Vec<String> = source.objects().iter().map(|o| o.id.to_string()).collect();
    assert_eq!(ids, ["object/bbb", "object/smithsonian-objects-aaa"]);
}

#[test]
#[cfg(unix)]
fn linked_folders_are_visited_once_and_never_left() {
    use std::os::unix::fs::symlink;

    let dir = folder(&["set/a/x.obj", "set/b/y.obj", "else/z.obj"], &[]);
    let set = dir.path().join("set");
    for (target, link) in [("set/b", "a/to_b"), ("set/a", "b/to_a"), ("else", "c")] {
        symlink(dir.path().join(target), set.join(link)).unwrap();
    }
    let source = open(&set, &SourceOptions::default());
    assert_eq!(found(&source), ["train a/x a/x.obj", "train b/y b/y.obj"]);
    assert_eq!(skipped(&source), ["/c outside-source"]);
}

#[test]
fn tables_are_read_as_spreadsheets_write_them() {
    let dir = folder(&["sub/x.obj", "u\u{308}ber.obj"], &[]);
    let root = dir.path().canonicalize().unwrap();
    let table = dir.path().join("list.csv");
    let ids = |content: &[u8]| -> Vec<String> {
        fs::write(&table, content).unwrap();
        let source = open(&table, &SourceOptions::default());
        assert!(source.skipped().is_empty(), "{:?}", source.skipped());
        source.objects().iter().map(|o| o.id.to_string()).collect()
    };
    assert_eq!(ids(b"path;category\nsub/x.obj;a,b\n"), ["a,b/x"]);
    assert_eq!(ids(b"path\tcategory\nsub/x.obj\ta\n"), ["a/x"]);
    assert_eq!(ids(b"path,category\nsub\\x.obj,a\n"), ["a/x"]);
    let absolute = format!("path,category\n{}/sub/x.obj,a\n", root.display());
    assert_eq!(ids(absolute.as_bytes()), ["a/x"]);
    let utf16: Vec<u8> = "\u{feff}path,category\nsub/x.obj,a\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert_eq!(ids(&utf16), ["a/x"]);
    assert_eq!(ids(b"\xef\xbb\xbfpath,category\nsub/x.obj,a\n"), ["a/x"]);
    let composed = "path,category,id\n\u{fc}ber.obj,a,o\n";
    assert_eq!(
        ids(composed.as_bytes()),
        ["a/o"],
        "macOS writes the name decomposed"
    );
    fs::write(&table, "file;category\nx;a\n").unwrap();
    let error = Source::open(&table, &SourceOptions::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("\"file\", \"category\""), "{error}");
}

#[test]
fn split_lists_and_names_compare_in_one_normalization() {
    let list = "id,category,split\n\u{e4},st\u{fc}hle,test\n";
    let dir = folder(&["stu\u{308}hle/a\u{308}.obj"], &[("split.csv", list)]);
    let source = open(dir.path(), &SourceOptions::default());
    assert_eq!(source.objects().get(0).split, Split::Test);
    assert!(source.skipped().is_empty(), "{:?}", source.skipped());
}

#[test]
fn archives_packed_by_windows_explorer_are_read_and_others_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("set.zip");
    archive(&path, &[("chair/a.obj", "v 0 0 0, and no byte twice")]);
    let original = fs::read(&path).unwrap();
    // Deflate64 differs in long repetitions alone. The method stands 8 bytes into a local header, 10 into a central one.
    let repacked = |method: u8| {
        let mut bytes = original.clone();
        for (magic, offset) in [(b"PK\x03\x04", 8), (b"PK\x01\x02", 10)] {
            let place = bytes.windows(4).position(|window| window == magic).unwrap();
            bytes[place + offset] = method;
        }
        fs::write(&path, bytes).unwrap();
        let source = open(&path, &SourceOptions::default());
        source.read(&source.objects().get(0), 1000)
    };
    assert_eq!(repacked(9).unwrap(), b"v 0 0 0, and no byte twice");
    let error = repacked(95).unwrap_err().to_string();
    assert!(error.contains("XZ") && error.contains("unpack"), "{error}");
}
