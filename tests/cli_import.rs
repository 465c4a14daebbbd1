//! Published sets through the programs: import, verify, select, and a few steps of training on what came out; and the page
//! that says how to bring a format of one's own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod util;

use std::fmt::Write as _;
use std::fs;

use serde_json::Value;
use util::{Outcome, TestDir, has_trainer, python_with_readers};

/// Small files that h5py wrote.
const PUBLISHED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/dataset/tests/published");

/// Boxes and balls in the layout of `ModelNet40`'s resampled text files.
fn write_modelnet(place: &TestDir) {
    place.write("modelnet/modelnet40_shape_names.txt", "bed\nchair\n");
    for (split, numbers) in [("train", 0..12), ("test", 12..18)] {
        let mut list = String::new();
        for (class, number) in numbers.flat_map(|number| ["bed", "chair"].map(|class| (class, number))) {
            let name = format!("{class}_{number:04}");
            writeln!(list, "{name}").unwrap();
            let mut text = String::new();
            for i in 0..128 {
                let (sin, cos) = (0.37 * f64::from(i + number)).sin_cos();
                let height = f64::from(i) / 64.0 - 1.0;
                let (x, y, z) = match class {
                    "bed" => (2.0 * cos, 0.2 * height, sin),
                    _ => (0.5 * cos, height, 0.5 * sin),
                };
                writeln!(text, "{x:.5},{y:.5},{z:.5},{cos:.5},0,{sin:.5}").unwrap();
            }
            place.write(&format!("modelnet/{class}/{name}.txt"), text);
        }
        place.write(&format!("modelnet/modelnet40_{split}.txt"), list);
    }
}

/// Two classes, of which the lower half of a shape is one part and the upper half another.
fn write_parts(place: &TestDir) {
    for (split, numbers) in [("train", 0..10), ("val", 10..11), ("test", 11..15)] {
        let mut list = Vec::new();
        for (synset, first_part, number) in numbers.flat_map(|n| [("03797390", 36, n), ("04379243", 47, n)]) {
            list.push(format!("shape_data/{synset}/s{number}"));
            let mut text = String::new();
            for i in 0..128 {
                let (sin, cos) = (0.37 * f64::from(i + number)).sin_cos();
                let height = f64::from(i) / 64.0 - 1.0;
                let width = if synset == "03797390" { 0.6 } else { 1.4 };
                let part = first_part + i32::from(height > 0.0);
                writeln!(
                    text,
                    "{:.5} {height:.5} {:.5} {cos:.5} 0 {sin:.5} {part}",
                    width * cos,
                    width * sin
                )
                .unwrap();
            }
            place.write(&format!("partanno/{synset}/s{number}.txt"), text);
        }
        let list = serde_json::to_string(&list).unwrap();
        place.write(
            &format!("partanno/train_test_split/shuffled_{split}_file_list.json"),
            list,
        );
    }
}

const SMALL: [&str; 10] = [
    "--set",
    "data.num_points=96",
    "--set",
    "encoder.kind=point_mlp",
    "--set",
    "encoder.channels=8",
    "--set",
    "encoder.bottleneck=0.5",
    "--set",
    "encoder.stages=[{reduction=2,num_neighbors=6,expansion=2,num_pre_blocks=1,num_pos_blocks=1},{reduction=2,num_neighbors=6,expansion=2,num_pre_blocks=1,num_pos_blocks=1}]",
];

fn train(place: &TestDir, task: &str, data: &str, settings: &[&str]) -> Value {
    let common = [
        "train",
        "finetune",
        "--task",
        task,
        "--data",
        data,
        "--out",
        task,
        "--threads",
        "1",
        "--json",
    ];
    let settings = settings.iter().flat_map(|setting| ["--set", *setting]);
    let arguments: Vec<&str> = common.into_iter().chain(SMALL).chain(settings).collect();
    place.run(&arguments).succeeds().json()
}

#[test]
fn a_published_set_becomes_a_score() {
    let place = TestDir::new();
    write_modelnet(&place);
    let import = [
        "dataset",
        "import",
        "modelnet40",
        "modelnet",
        "--out",
        "mn",
        "--allow-incomplete",
    ];
    place.run(&import[..6]).fails_with(&[
        "not whole",
        "24 train objects where 9843 were published",
        "--allow-incomplete",
    ]);
    assert!(
        !place.path("mn").exists(),
        "nothing is written of what is refused"
    );

    let outcome = place.run(&import).succeeds();
    let said = "modelnet40 txt (txt): 36 objects (train 24, test 12) of 2 classes, 128 points with normals, in 2 shards: mn";
    assert!(outcome.stdout.contains(said), "{outcome:#?}");
    assert!(outcome.stderr.contains("note: not whole"), "{outcome:#?}");
    place.run(&["dataset", "verify", "mn", "--deep"]).succeeds();
    let inspection = place
        .run(&["dataset", "inspect", "mn", "--json"])
        .succeeds()
        .json();
    assert_eq!(
        inspection["recipe"]["import"]["is_whole"], false,
        "{inspection:#}"
    );
    let source = inspection["source"]["publication"].as_str().unwrap();
    assert!(source.contains("not whole"), "{source}");

    // What is made of it still says so, and no recipe builds it again.
    let select = [
        "dataset",
        "select",
        "mn",
        "--where",
        "category = 'bed'",
        "--out",
        "beds",
        "--json",
    ];
    assert_eq!(place.run(&select).succeeds().json()["num_rows"], 18);
    let beds = place
        .run(&["dataset", "inspect", "beds", "--json"])
        .succeeds()
        .json();
    assert_eq!(beds["recipe"]["import"]["is_whole"], false);
    place
        .run(&["dataset", "relabel", "mn", "--map", "bed=sofa", "--out", "sofas"])
        .succeeds();
    place
        .run(&[
            "dataset",
            "relight",
            "mn",
            "--lighting",
            "hemisphere",
            "--out",
            "lit",
        ])
        .fails_with(&["the data set was imported"]);

    // Again: it is there already.
    let again = place.run(&[&import[..], &["--json"]].concat()).succeeds().json();
    assert_eq!(again["datasets"][0]["sha256"], inspection["sha256"]);

    // Episodes of it.
    let draw = "dataset import fewshot mn --ways 2 --shots 4 --folds 2 --num-test 6 --seed 3 --out episodes";
    let outcome = place.run(&draw.split(' ').collect::<Vec<_>>()).succeeds();
    assert!(
        outcome.stdout.contains("2way_4shot fold 1, seed 3"),
        "{outcome:#?}"
    );
    place
        .run(&["dataset", "verify", "episodes/2way_4shot/1"])
        .succeeds();

    if has_trainer() {
        let result = train(
            &place,
            "classify",
            "mn",
            &["finetune.steps=40", "finetune.batch_size=8"],
        );
        let evaluate = ["train", "evaluate", "--run", "classify", "--data", "mn", "--json"];
        let score = place.run(&evaluate).succeeds().json();
        let accuracy = score["accuracy"].as_f64().unwrap();
        assert!(accuracy > 0.8, "flat and tall are told apart: {result:#}");
    }
}

#[test]
fn published_parts_become_a_score() {
    let place = TestDir::new();
    write_parts(&place);
    place
        .run(&[
            "dataset",
            "import",
            "shapenetpart",
            "partanno",
            "--out",
            "parts",
            "--allow-incomplete",
        ])
        .succeeds();
    place.run(&["dataset", "verify", "parts"]).succeeds();
    if has_trainer() {
        let result = train(
            &place,
            "segment",
            "parts",
            &["segment={batch_size=6,steps=40,learning_rate=5e-3}"],
        );
        let miou = result["score"]["plain"]["instance_miou"].as_f64().unwrap();
        assert!(miou > 0.6, "halves are told apart: {result:#}");
    }
}

#[test]
fn help_and_errors_say_what_there_is() {
    let place = TestDir::new();
    let outcome = place
        .run(&["dataset", "import", "modelnet41", "src", "--out", "out"])
        .exits_with_2();
    assert!(
        outcome.stderr.contains("scanobjectnn, modelnet40, shapenetpart"),
        "{outcome:#?}"
    );
    let src = format!("{PUBLISHED}/scanobjectnn");
    place
        .run(&[
            "dataset",
            "import",
            "scanobjectnn",
            &src,
            "--out",
            "out",
            "--allow-incomplete",
        ])
        .fails_with(&["OBJ_BG, PB_T50_RS, OBJ_ONLY", "--variant"]);
    let import = [
        "dataset",
        "import",
        "scanobjectnn",
        &src,
        "--variant",
        "OBJ_BG",
        "--out",
        "out",
        "--allow-incomplete",
    ];
    place
        .run(&import[..8])
        .fails_with(&["5 train objects where 2309 were published"]);
    place.run(&import).succeeds();
    place.write("mine/photo.jpg", "mine");
    place
        .run(&[&import[..6], &["--out", "mine", "--allow-incomplete", "--force"]].concat())
        .fails_with(&["mine"]);
}

/// The block of Python of `docs/datasets.md`, "A format of your own", as it stands, then `adopt`.
#[test]
fn a_format_of_ones_own_is_written_with_pyarrow_alone() {
    let Some(mut python) = python_with_readers() else {
        return;
    };
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/datasets.md")).unwrap();
    let (_, section) = page.split_once("## A format of your own").unwrap();
    let (_, block) = section.split_once("```python\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let place = TestDir::new();
    let samples = "\
def samples(numbers):
    for number in numbers:
        points = np.random.default_rng(number).normal(size=(64, 3)) * 5 + 100
        yield 'ab'[number % 2] * 3, f'object-{number}', points

write('train', samples(range(8)), 64)
write('test', samples(range(8, 12)), 64)
";
    place.write("own.py", format!("{block}\n{samples}"));
    python.arg("own.py").current_dir(place.path(""));
    Outcome::of(&mut python).succeeds();
    let adopted = place
        .run(&["dataset", "adopt", "rows", "--out", "shards", "--json"])
        .succeeds()
        .json();
    assert_eq!(
        adopted["num_rows_by_split"],
        serde_json::json!({ "train": 8, "test": 4 })
    );
    assert_eq!(adopted["classes"], serde_json::json!(["aaa", "bbb"]));
    place.run(&["dataset", "verify", "shards"]).succeeds();
}
