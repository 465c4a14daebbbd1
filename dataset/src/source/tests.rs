#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

/// A folder with these files, all of them empty but the last ones, which have content.
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
        .map(|o| format!("{} {} {}", o.split, o.id, portable(&o.path)))
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
    assert_eq!(source.layout(), Layout::Folders);
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
fn a_list_of_splits_rules_and_both_sides_are_told() {
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
fn a_list_beside_the_meshes_is_used_unasked() {
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
    assert_eq!(source.layout(), Layout::Shapenet);
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
fn shapenet_without_names_keeps_numbers_and_twins_get_them() {
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
    assert_eq!(source.layout(), Layout::Modelnet);
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
    assert_eq!(source.layout(), Layout::Csv);
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

#[test]
fn an_empty_or_absent_source_is_an_error() {
    let dir = folder(&["readme.txt"], &[]);
    let error = Source::open(dir.path(), &SourceOptions::default()).unwrap_err();
    assert!(matches!(error, DatasetError::NoObjects { .. }), "{error}");
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
        Layout::Csv,
    ] {
        assert_eq!(layout.to_string().parse::<Layout>().unwrap(), layout);
    }
    "tarball".parse::<Layout>().unwrap_err();
}
