//! `tap dataset preview` and `tap dataset overlap` as a user meets them: one page that loads nothing and believes
//! nothing, opened and clicked in a real browser where there is one; and duplicates that are found under other names.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod util;

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use tap_dataset::{Dataset, Split, ViewSelection, npy};
use util::{CUBE, TestDir, nan_cube};

/// A name that would be a program if it were believed.
const HOSTILE: &str = "<img src=x onerror=document.body.dataset.hacked=1>&'\"";

/// What a user does with the page, done by a script at its end; the page's own state says what came of it.
const CLICKS: &str = "<script>
const say = (name, value) => { document.body.dataset[name] = value; };
document.querySelectorAll('.card')[1].click();
say('opened', document.body.dataset.open);
document.querySelectorAll('#strip button')[4].click();
say('looked', document.body.dataset.view);
const canvas = document.getElementById('canvas');
const at = (type, x) => canvas.dispatchEvent(new PointerEvent(type, { clientX: x, clientY: 200, pointerId: 1 }));
at('pointerdown', 100); at('pointermove', 180); at('pointerup', 180);
say('dragged', document.body.dataset.turned !== undefined);
const image = document.querySelector('#strip img');
const done = () => {
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  say('painted', pixels.some((value) => value > 0));
  document.getElementById('close').click();
  say('closed', !document.getElementById('viewer').open);
  document.querySelector('.category').click();
  say('filtered', [...document.querySelectorAll('.card')].filter((card) => !card.hidden).length);
};
setTimeout(done, 300);
</script>";

/// A small dataset with a hostile name and a broken mesh; `None` where file systems have no such names.
fn dataset() -> TestDir {
    let place = TestDir::new();
    for name in ["a", "b", HOSTILE] {
        let name = name.replace('/', "");
        place.write(&format!("meshes/box/{name}.obj"), CUBE);
    }
    for name in ["a", "b"] {
        place.write(
            &format!("meshes/lamp/{name}.obj"),
            CUBE.replace("v 1 1 1", "v 1 2 1"),
        );
    }
    place.write("meshes/box/broken.obj", nan_cube());
    let flags = ["--size", "32", "--num-points", "256", "--max-skipped", "1"];
    let build = ["dataset", "build", "meshes", "--out", "data"];
    place.run(&[&build[..], &flags].concat()).succeeds();
    place
}

#[test]
fn a_page_holds_all_and_loads_nothing() {
    let place = dataset();
    place
        .run(&["dataset", "preview", "data", "--out", "page.html", "--json"])
        .succeeds();
    let page = fs::read_to_string(place.path("page.html")).unwrap();
    assert!(
        page.contains("default-src 'none'"),
        "the browser is told to load nothing"
    );
    let without_namespaces = page.replace("http-equiv", "");
    assert!(!without_namespaces.contains("http"), "no address of anything");
    assert!(!page.contains("<img src=x"), "a name became HTML");
    assert!(
        page.contains("box/broken") && page.contains("non-finite"),
        "what was left out is there"
    );
    assert!(page.contains("&quot;num_points&quot;: 256"), "and the recipe");
    let again = ["dataset", "preview", "data", "--out", "page.html"];
    place.run(&again).fails_with(&["page.html", "--force"]);
    place
        .run(&[&again[..], &["--force", "--limit", "1"]].concat())
        .succeeds();
    for (name, content) in [
        (
            "thesis.html",
            "<!doctype html>\n<html lang='en'><head><title>My thesis</title></head></html>",
        ),
        ("data/_manifest.json", ""),
    ] {
        if !content.is_empty() {
            place.write(name, content);
        }
        let before = place.files("");
        place
            .run(&["dataset", "preview", "data", "--force", "--out", name])
            .fails_with(&[name]);
        assert!(place.files("") == before, "{name} is as it was");
    }
    let smaller = fs::read_to_string(place.path("page.html")).unwrap();
    assert!(smaller.len() < page.len(), "fewer objects");
    place
        .run(&["dataset", "preview", "meshes", "--out", "x.html"])
        .fails_with(&["_manifest.json"]);
}

/// What the page's script gets.
fn shown(place: &TestDir, page: &str) -> Value {
    let page = fs::read_to_string(place.path(page)).unwrap();
    let (_, data) = page
        .split_once("<script type='application/json' id='data'>")
        .unwrap();
    serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn objects_without_views_show_their_points_and_parts_their_predictions() {
    let place = TestDir::new();
    for name in ["a", "b"] {
        place.write(&format!("meshes/box/{name}.obj"), CUBE);
    }
    let build = "dataset build meshes --out data --no-views --num-points 256 --split-fractions 0,0,1";
    place.run(&build.split(' ').collect::<Vec<_>>()).succeeds();
    place
        .run(&["dataset", "preview", "data", "--out", "page.html"])
        .succeeds();
    let page = fs::read_to_string(place.path("page.html")).unwrap();
    assert!(
        page.contains("its points are drawn"),
        "the page says what it shows"
    );
    let objects = shown(&place, "page.html")["objects"].clone();
    for object in objects.as_array().unwrap() {
        assert_eq!(object["views"].as_array().unwrap().len(), 6, "{object}");
        assert_eq!(object["cameras"].as_array().unwrap().len(), 6, "{object}");
        assert!(object["predicted"].is_null(), "{object}");
    }

    // As `tap-train predict` writes it, for the second object alone: a quarter of the points is wrong.
    let dataset = Dataset::open(&place.path("data")).unwrap();
    let sample = dataset.read(Split::Test, 1, ViewSelection::None).unwrap();
    let truth: Vec<u8> = sample
        .points
        .iter()
        .map(|point| u8::from(point[1] > 0.0))
        .collect();
    let parts: Vec<u8> = truth
        .iter()
        .zip(0..)
        .map(|(part, i)| if i < 64 { 1 - part } else { *part })
        .collect();
    fs::create_dir(place.path("parts")).unwrap();
    let write = |name: &str, bytes: Vec<u8>| fs::write(place.path("parts").join(name), bytes).unwrap();
    let facts = json!({ "num_points": 256, "ids": [sample.id.to_string()], "version": "1" });
    write("predict.json", facts.to_string().into_bytes());
    write("parts.npy", npy::encode_u8(&[1, 256], &parts));
    write("true_parts.npy", npy::encode_u8(&[1, 256], &truth));
    write(
        "points.npy",
        npy::encode_f32(&[1, 256, 3], sample.points.as_flattened()),
    );
    let preview = [
        "dataset",
        "preview",
        "data",
        "--predicted",
        "parts",
        "--out",
        "parts.html",
    ];
    place.run(&preview).succeeds();
    let objects = shown(&place, "parts.html")["objects"].clone();
    let [object] = objects.as_array().unwrap().as_slice() else {
        panic!("the objects that were predicted: {objects}");
    };
    assert_eq!(object["id"], sample.id.to_string(), "{object}");
    assert_eq!(
        object["facts"][0],
        json!(["points with the right part", "75.0 %"]),
        "{object}"
    );
    let (true_views, predicted) = (&object["views"], &object["predicted"]["views"]);
    assert_eq!(predicted.as_array().unwrap().len(), 6, "{object}");
    assert_ne!(true_views, predicted, "other parts have other colors");

    fs::remove_file(place.path("parts/true_parts.npy")).unwrap();
    place.run(&[&preview[..], &["--force"]].concat()).succeeds();
    fs::write(
        place.path("parts/parts.npy"),
        npy::encode_u8(&[1, 255], &parts[1..]),
    )
    .unwrap();
    place
        .run(&[&preview[..], &["--force"]].concat())
        .fails_with(&["parts.npy"]);
    let other = json!({ "num_points": 256, "ids": ["lamp/a"] });
    fs::write(place.path("parts/predict.json"), other.to_string()).unwrap();
    fs::write(place.path("parts/parts.npy"), npy::encode_u8(&[1, 256], &parts)).unwrap();
    place
        .run(&[&preview[..], &["--force"]].concat())
        .fails_with(&["none of the objects"]);
}

#[test]
fn a_browser_opens_the_page_and_clicks_through_it() {
    let Some(browser) = util::browser::find() else {
        util::skip("there is no Chromium to open the page with");
        return;
    };
    let place = dataset();
    place
        .run(&["dataset", "preview", "data", "--out", "page.html"])
        .succeeds();
    let page = fs::read_to_string(place.path("page.html")).unwrap();
    place.write(
        "clicked.html",
        page.replace("</body>", &format!("{CLICKS}</body>")),
    );
    let mut command = Command::new(browser);
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=4000",
        "--dump-dom",
    ]);
    command.arg(format!("--user-data-dir={}", place.path("profile").display()));
    let output = command.arg(place.path("clicked.html")).output().unwrap();
    let dom = String::from_utf8_lossy(&output.stdout);
    let body = dom
        .split("<body")
        .nth(1)
        .and_then(|rest| rest.split('>').next())
        .unwrap_or_default();
    let expected = [
        "data-ready=\"5\"",
        "data-opened=\"box/",
        "data-looked=\"5\"",
        "data-dragged=\"true\"",
        "data-painted=\"true\"",
        "data-closed=\"true\"",
        "data-filtered=\"3\"",
    ];
    for state in expected {
        assert!(
            body.contains(state),
            "{state} is not in {body}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert!(!body.contains("hacked"), "a name was believed: {body}");
}

/// The same objects under other names, sampled by another seed: all of them are found, and no other pair.
#[test]
fn duplicates_are_found_under_other_names_and_samplings() {
    let place = TestDir::new();
    place.synthesize(3, 4);
    let build = |meshes: &str, out: &str, seed: &str| {
        let flags = ["--size", "16", "--num-points", "1024", "--seed", seed];
        place
            .run(&[&["dataset", "build", meshes, "--out", out][..], &flags].concat())
            .succeeds();
    };
    build("meshes", "a", "0");
    let meshes = place
        .files("meshes")
        .into_iter()
        .filter(|(name, _)| name.ends_with("/model.obj"));
    for (i, (name, obj)) in meshes.enumerate() {
        // Another file: with a comment, so that its hash differs, and without groups.
        let obj = String::from_utf8(obj).unwrap();
        let lines = obj
            .lines()
            .filter(|line| !line.starts_with("mtllib") && !line.starts_with("usemtl"));
        let category = name.split('/').next().unwrap();
        let obj = format!("# a copy\n{}\n", lines.collect::<Vec<_>>().join("\n"));
        place.write(&format!("copies/c{category}/copy_{i}.obj"), obj);
    }
    build("copies", "b", "1");

    let report = place
        .run(&["dataset", "overlap", "a", "b", "--json"])
        .succeeds()
        .json();
    assert_eq!(report["num_overlapping"], 12, "{report:#}");
    assert_eq!(report["kinds"]["same-mesh"], Value::Null, "{report:#}");
    assert!(
        report["kinds"]["near-shape"].as_u64().unwrap() >= 12,
        "{report:#}"
    );
    let same = place
        .run(&["dataset", "overlap", "a", "a", "--json"])
        .succeeds()
        .json();
    assert_eq!(same["kinds"]["same-mesh"], 12, "{same:#}");
}
