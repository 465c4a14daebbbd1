//! Frozen features and finished runs through the program: tables of probes and results, ranked lists, embeddings, predictions for
//! files, disturbed clouds, weights that an evaluation selected, and audits of weights in files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod program;
mod shape;
mod small;

use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::sync::OnceLock;

use program::{stderr, succeeded};
use serde_json::Value;
use tap_dataset::{Dataset, Sample, ShardHeader, Split, ViewSelection, npy, write_samples};
use tap_train::data::augment::normalize;
use tap_train::weights::safetensors::read_tensors;
use tap_train::weights::torch_save::{Entry, write_dict};
use tch::Tensor;

/// A folder with the data set `data`, the pre-trained run `tap`, and `tuned`, fine-tuned on it.
struct TestDir(tempfile::TempDir);

impl TestDir {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        shape::write(&folder.path().join("data"), 6, 16, 96);
        let place = Self(folder);
        let pretrain = ["pretrain", "--data", "data", "--out", "tap"];
        succeeded(&place.train(&pretrain, &["pretrain.steps=4"]));
        place
    }

    fn tune(&self, out: &str, data: &str, settings: &[&str]) -> Value {
        let finetune = [
            "finetune", "--data", data, "--init", "tap", "--out", out, "--json",
        ];
        let settings = [&["finetune.batch_size=6", "finetune.steps=90"], settings].concat();
        json(&self.train(&finetune, &settings))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        program::run(self.0.path(), arguments)
    }

    fn train(&self, arguments: &[&str], settings: &[&str]) -> Output {
        let settings = small::NETWORK.iter().chain(settings);
        let settings = settings.flat_map(|setting| ["--set", setting]);
        let arguments: Vec<&str> = arguments.iter().copied().chain(settings).collect();
        self.run(&[&arguments[..], &["--threads", "1"]].concat())
    }

    fn read(&self, name: &str) -> Value {
        program::json(&self.path(name))
    }

    /// Copies the data set, each row into the split and with the changes that `edit` makes.
    fn copy_data(&self, name: &str, edit: impl Fn(Split, usize, &mut Sample) -> Split) {
        self.copy_data_with(name, serde_json::json!({}), 3, edit);
    }

    /// The same with a recipe, and the first classes alone.
    fn copy_data_with(
        &self,
        name: &str,
        recipe: Value,
        num_classes: usize,
        edit: impl Fn(Split, usize, &mut Sample) -> Split,
    ) {
        let dataset = Dataset::open(&self.path("data")).unwrap();
        let mut samples = Vec::new();
        for split in [Split::Train, Split::Test] {
            for row in 0..dataset.len(split) {
                let mut sample = dataset.read(split, row, ViewSelection::All).unwrap();
                if sample.label >= num_classes as i64 {
                    continue;
                }
                samples.push((edit(split, row, &mut sample), sample));
            }
        }
        samples.sort_by(|a, b| (a.0 as usize, &a.1.id).cmp(&(b.0 as usize, &b.1.id)));
        let header = ShardHeader {
            layout: dataset.manifest().layout,
            classes: dataset.classes()[..num_classes].to_vec(),
            parts: Vec::new(),
            recipe,
            adapter: serde_json::json!({}),
        };
        write_samples(&self.path(name), &header, 7, samples).unwrap();
    }

    /// The points of a row as a file in a folder that is called as its class.
    fn write_cloud(&self, data: &str, split: Split, row: usize) -> String {
        let dataset = Dataset::open(&self.path(data)).unwrap();
        let sample = dataset.read(split, row, ViewSelection::None).unwrap();
        let folder = self.path("clouds").join(&sample.category);
        fs::create_dir_all(&folder).unwrap();
        let lines = sample.points.iter().map(|[x, y, z]| format!("{x} {y} {z}\n"));
        let file = folder.join(format!("{}.xyz", sample.id.name()));
        fs::write(&file, lines.collect::<String>()).unwrap();
        sample.id.to_string()
    }
}

#[track_caller]
fn json(output: &Output) -> Value {
    serde_json::from_str(&succeeded(output)).unwrap()
}

#[track_caller]
fn refused(output: &Output) -> String {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    text.lines().last().unwrap_or_default().to_owned()
}

/// The tests of a process share one pre-trained run, which none of them changes.
fn place() -> &'static TestDir {
    static PLACE: OnceLock<TestDir> = OnceLock::new();
    PLACE.get_or_init(TestDir::new)
}

#[test]
fn a_probe_is_a_table_of_poolings_and_settings() {
    let place = place();
    let probe = [
        "probe",
        "--data",
        "data",
        "--init",
        "tap",
        "--random-inits",
        "0",
        "--out",
        "table",
    ];
    let heads = [
        "--heads",
        "svm,svc,logistic,knn",
        "--poolings",
        "max,sum",
        "--costs",
        "0.01,1",
        "--folds",
        "3",
    ];
    let labels = ["--labels-per-class", "all"];
    let text = succeeded(&place.run(&[&probe[..], &heads, &labels].concat()));
    assert!(
        text.contains("cross-validation") && text.contains("svc"),
        "{text}"
    );
    let result = place.read("table/probe.json");
    let cells = result["arms"][0]["grid"].as_array().unwrap();
    // Two poolings with two C for three classifiers, and with five k.
    assert_eq!(cells.len(), 2 * 2 * 3 + 2 * 5, "{result}");
    for head in ["svm", "svc", "logistic", "knn"] {
        let of_head: Vec<&Value> = cells.iter().filter(|cell| cell["head"] == head).collect();
        let mean = |cell: &Value| cell["cross_validation"]["mean"].as_f64().unwrap();
        let best = of_head.iter().map(|cell| mean(cell)).fold(0.0, f64::max);
        let chosen: Vec<&&Value> = of_head.iter().filter(|cell| cell["is_chosen"] == true).collect();
        assert_eq!(chosen.len(), 1, "{head}: {result}");
        assert!((mean(chosen[0]) - best).abs() < 1e-12, "{head}: {result}");
        assert_eq!(chosen[0]["cross_validation"]["count"], 3, "{head}: {result}");
    }
    let table = succeeded(&place.run(&["table", "table"]));
    assert!(
        table.contains("logistic accuracy") && table.contains("chosen by cross-validation"),
        "{table}"
    );
}

#[test]
fn ranked_lists_are_those_that_the_scores_are_of() {
    let place = place();
    let retrieve = [
        "retrieve",
        "--data",
        "data",
        "--init",
        "tap",
        "--out",
        "lists",
        "--list-length",
        "5",
    ];
    let result = json(&place.run(&[&retrieve[..], &["--json"]].concat()));
    assert_eq!(result["num_queries"], 9, "{result}");
    let mut precision = 0.0;
    let lists: Vec<_> = fs::read_dir(place.path("lists/test_normal")).unwrap().collect();
    assert_eq!(lists.len(), 9, "a file a query");
    for list in lists {
        let path = list.unwrap().path();
        let query = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let listed: Vec<(&str, f64)> = text
            .lines()
            .map(|line| {
                let (id, distance) = line.split_once(' ').unwrap();
                (id, distance.parse().unwrap())
            })
            .collect();
        assert_eq!(
            (listed.len(), listed[0]),
            (5, (query.as_str(), 0.0)),
            "the query first"
        );
        assert!(
            listed.windows(2).all(|pair| pair[0].1 <= pair[1].1),
            "by distance: {text}"
        );
        let class = |id: &str| id.split("__").next().unwrap().to_owned();
        let num_right = listed.iter().filter(|(id, _)| class(id) == class(&query)).count();
        precision += num_right as f64 / 5.0 / 9.0;
    }
    let found = result["micro"]["precision"].as_f64().unwrap();
    assert!(
        (found - precision).abs() < 1e-9,
        "{found}, of the files {precision}"
    );
    assert!(refused(&place.run(&retrieve)).contains("--force"));
    fs::write(place.path("lists/mine.txt"), "mine").unwrap();
    let forced = [&retrieve[..], &["--force"]].concat();
    assert!(
        refused(&place.run(&forced)).contains("mine.txt"),
        "a file of the user's"
    );
    fs::remove_file(place.path("lists/mine.txt")).unwrap();
    succeeded(&place.run(&forced));
}

#[test]
fn embeddings_are_a_table_and_an_array_of_all_rows() {
    let place = place();
    let embed = [
        "embed",
        "--data",
        "data",
        "--init",
        "tap",
        "--pooling",
        "sum",
        "--out",
        "embeddings",
        "--json",
    ];
    let result = json(&place.run(&embed));
    assert_eq!(
        (&result["num_rows"], &result["num_channels"]),
        (&27.into(), &16.into()),
        "{result}"
    );
    let bytes = fs::read(place.path("embeddings/embeddings.npy")).unwrap();
    let (shape, values) = npy::decode_f32(&bytes).unwrap();
    assert_eq!(shape, [27, 16]);
    assert!(values.iter().all(|value| value.is_finite()));
    assert_ne!(values[..16], values[16..32], "two objects have two features");
    assert_eq!(
        &fs::read(place.path("embeddings/embeddings.parquet")).unwrap()[..4],
        b"PAR1"
    );
    let some = [
        "embed",
        "--data",
        "data",
        "--init",
        "tap",
        "--where",
        "category = 'box'",
        "--split",
        "test",
    ];
    let result = json(&place.run(&[&some[..], &["--out", "boxes", "--json"]].concat()));
    assert_eq!(result["num_rows"], 3, "{result}");
}

#[test]
fn predictions_for_files_are_those_for_the_rows_that_they_are_copies_of() {
    let place = place();
    // As rows of a build are: files are centered and scaled like them.
    place.copy_data("unit", |split, _, sample| {
        normalize(&mut sample.points);
        split
    });
    let tuned = place.tune("tuned-p", "unit", &["data.point_choice=farthest"]);
    let rows: Vec<String> = (0..9)
        .map(|row| place.write_cloud("unit", Split::Test, row))
        .collect();
    let predict = |arguments: &[&str]| {
        let common = ["predict", "--run", "tuned-p", "--json", "--threads", "1"];
        place.run(&[&common[..], arguments].concat())
    };
    let of_files = json(&predict(&["clouds", "--out", "of-files"]));
    assert_eq!(of_files["num_objects"], 9, "{of_files}");
    let accuracy = |result: &Value| result["score"]["accuracy"].as_f64().unwrap();
    let expected = tuned["accuracy"].as_f64().unwrap();
    assert!(
        (accuracy(&of_files) - expected).abs() < 1e-9,
        "{of_files}, evaluated {expected}"
    );
    let csv = fs::read_to_string(place.path("of-files/predictions.csv")).unwrap();
    let ids: Vec<&str> = csv
        .lines()
        .skip(1)
        .map(|line| line.split(',').next().unwrap())
        .collect();
    assert_eq!(ids, rows, "sorted as the rows are");
    let logits = fs::read(place.path("of-files/logits.npy")).unwrap();
    assert_eq!(npy::decode_f32(&logits).unwrap().0, [9, 3]);

    let of_rows = json(&predict(&[
        "unit",
        "--where",
        "category != 'nothing'",
        "--out",
        "of-rows",
    ]));
    assert_eq!(of_rows["num_objects"], 27, "every split: {of_rows}");

    // A ball counts as right where the map says so, and cones are not scored.
    fs::write(
        place.path("map.toml"),
        "ball = [\"ball\", \"box\"]\nbox = [\"box\"]\n",
    )
    .unwrap();
    let mapped = json(&predict(&[
        "clouds",
        "--class-map",
        "map.toml",
        "--out",
        "mapped",
    ]));
    assert_eq!(
        (&mapped["score"]["num_scored"], &mapped["score"]["num_not_scored"]),
        (&6.into(), &3.into())
    );
    assert!(
        mapped["score"]["accuracy_among_mapped"].as_f64() >= mapped["score"]["accuracy"].as_f64(),
        "{mapped}"
    );
    fs::write(place.path("bad.toml"), "ball = [\"sphere\"]\n").unwrap();
    let text = refused(&predict(&["clouds", "--class-map", "bad.toml", "--out", "bad"]));
    assert!(text.contains("no class 'sphere'"), "{text}");
    fs::write(place.path("broken.xyz"), "1 2 3\nfour\n").unwrap();
    let text = refused(&predict(&["broken.xyz", "--out", "bad"]));
    assert!(
        text.contains("line 2 is no point") && text.contains("broken.xyz"),
        "{text}"
    );
    assert!(!place.path("bad").exists(), "nothing was written");
}

#[test]
fn parts_are_predicted_for_points_of_a_class_that_is_told() {
    let place = place();
    shape::write_parts(&place.path("parts-data"), 6, 16, 96, &shape::CLASSES);
    let finetune = [
        "finetune",
        "--task",
        "segment",
        "--data",
        "parts-data",
        "--init",
        "tap",
        "--out",
        "parts",
    ];
    succeeded(&place.train(&finetune, &["segment={batch_size=6,steps=4}"]));
    fs::create_dir_all(place.path("one")).unwrap();
    let points: Vec<f32> = (0..30).map(|i| (i as f32).sin()).collect();
    fs::write(place.path("one/a.npy"), npy::encode_f32(&[10, 3], &points)).unwrap();
    let predict = [
        "predict",
        "--run",
        "parts",
        "one/a.npy",
        "--out",
        "labels",
        "--threads",
        "1",
    ];
    let text = refused(&place.run(&predict));
    assert!(
        text.contains("--category") && text.contains("ball, box, cone"),
        "{text}"
    );
    succeeded(&place.run(&[&predict[..], &["--category", "box"]].concat()));
    let points = fs::read(place.path("labels/points.npy")).unwrap();
    assert_eq!(npy::decode_f32(&points).unwrap().0, [1, 64, 3]);
    assert_eq!(
        fs::read(place.path("labels/parts.npy")).unwrap().len() - 128,
        64,
        "one byte a point"
    );

    // Refinement is off unless asked for.
    let evaluate = [
        "evaluate",
        "--run",
        "parts",
        "--data",
        "parts-data",
        "--json",
        "--threads",
        "1",
    ];
    assert!(json(&place.run(&evaluate))["score"].get("refined").is_none());
    let refined = json(&place.run(&[&evaluate[..], &["--refine"]].concat()));
    assert!(refined["score"]["refined"]["class_miou"].is_number(), "{refined}");
    assert_eq!(refined["is_refined"], true, "{refined}");
}

#[test]
fn scores_fall_with_the_strength_of_what_is_done_to_clouds() {
    let place = place();
    let tuned = place.tune("tuned-r", "data", &[]);
    let robustness = [
        "robustness",
        "--run",
        "tuned-r",
        "--data",
        "data",
        "--threads",
        "1",
    ];
    let result = json(&place.run(&[&robustness[..], &["--json", "--out", "robustness.json"]].concat()));
    assert_eq!(result["clean"], tuned["accuracy"], "{result}");
    assert_eq!(
        result["corrupted"].as_array().unwrap().len(),
        30,
        "six kinds in five strengths"
    );
    assert_eq!(place.read("robustness.json"), result);
    let text = succeeded(&place.run(&[&robustness[..], &["--corruptions", "dropout"]].concat()));
    assert!(
        text.contains("dropout") && text.contains("0.9: ") && !text.contains("jitter"),
        "{text}"
    );
}

#[test]
fn weights_are_selected_on_validation_or_said_to_be_selected_on_test() {
    let place = place();
    let text = refused(&place.train(
        &["finetune", "--data", "data", "--out", "refused"],
        &["finetune.batch_size=6", "finetune.select=validation"],
    ));
    assert!(
        text.contains("no split val") && text.contains("tap dataset resplit"),
        "{text}"
    );

    place.copy_data("three", |split, row, _| match split {
        Split::Train if row % 3 == 0 => Split::Val,
        _ => split,
    });
    let log = "log={validate_every=10,checkpoint_every=10}";
    for (select, out, words) in [
        ("validation", "selected", "best on val"),
        ("best-on-test", "on-test", "selection on the split that is scored"),
    ] {
        let select = format!("finetune.select={select}");
        let settings = [
            select.as_str(),
            log,
            "finetune.steps=40",
            "finetune.learning_rate=1e-2",
        ];
        let result = place.tune(out, "three", &settings);
        assert!(result["selection"].as_str().unwrap().contains(words), "{result}");
        let recorded = fs::read_to_string(place.path(out).join("metrics.jsonl")).unwrap();
        let evaluations = recorded
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let evaluations: Vec<(u64, f64)> = evaluations
            .filter(|line| line["kind"] == "evaluation")
            .map(|line| (line["step"].as_u64().unwrap(), line["accuracy"].as_f64().unwrap()))
            .collect();
        let best = evaluations.iter().map(|(_, score)| *score).fold(0.0, f64::max);
        let first = evaluations.iter().find(|(_, score)| *score >= best).unwrap();
        assert_eq!(
            result["selected"]["step"], first.0,
            "the first of the best: {result} {evaluations:?}"
        );
        if out == "on-test" {
            assert_eq!(result["accuracy"].as_f64(), Some(best), "{result}");
        }
        assert!(
            !place.path(out).join("best.safetensors").exists(),
            "the weights of the run are the best"
        );
        let evaluate = [
            "evaluate",
            "--run",
            out,
            "--data",
            "three",
            "--json",
            "--threads",
            "1",
        ];
        let again = json(&place.run(&evaluate));
        assert_eq!(
            again["confusion"], result["confusion"],
            "the saved weights are those selected"
        );
        assert!(again["selection"].as_str().unwrap().contains(words), "{again}");
    }
}

#[test]
fn a_result_has_its_matrix_as_table_and_image_and_stands_beside_others() {
    let place = place();
    let result = place.tune(
        "tuned-t",
        "data",
        &["loss={label_smoothing=0.2,smoothing_rule=\"all\"}"],
    );
    for name in [
        "version",
        "data_sha256",
        "rows_sha256",
        "config_sha256",
        "selection",
        "votes_average",
    ] {
        assert!(
            result[name].as_str().is_some_and(|text| !text.is_empty()),
            "{name}: {result}"
        );
    }
    let csv = fs::read_to_string(place.path("tuned-t/confusion.csv")).unwrap();
    assert!(csv.starts_with("label\\prediction,ball,box,cone\nball,"), "{csv}");
    assert_eq!(
        &fs::read(place.path("tuned-t/confusion.png")).unwrap()[1..4],
        b"PNG"
    );
    let evaluate = [
        "evaluate",
        "--run",
        "tuned-t",
        "--data",
        "data",
        "--votes",
        "2",
        "--out",
        "voted",
        "--threads",
        "1",
    ];
    let text = succeeded(&place.run(&evaluate));
    assert!(
        text.contains("probabilities averaged over the plain pass and 2 votes"),
        "{text}"
    );
    assert!(place.path("voted/confusion.png").is_file());
    let table = succeeded(&place.run(&["table", "tuned-t", "voted"]));
    assert!(
        table.contains("last step, 0 votes") && table.contains("last step, 2 votes"),
        "{table}"
    );
    fs::write(place.path("other.json"), "{\"mine\": 1}").unwrap();
    assert!(refused(&place.run(&["table", "other.json"])).contains("not a result"));
}

/// Writes a fine-tuned network as other programs do: names behind `module.`, its classes in this order and not named, and an
/// accuracy beside it.
fn write_as_others_do(place: &TestDir, from: &str, to: &str, order: [i64; 3], accuracy: f64) {
    let tensors = read_tensors(&place.path(from).join("model.safetensors")).unwrap();
    let order = Tensor::from_slice(&order);
    let foreign = tensors.into_iter().map(|(name, tensor)| {
        let tensor = if tensor.size().first() == Some(&3) && name.starts_with("prediction.head.") {
            tensor.index_select(0, &order)
        } else {
            tensor
        };
        (format!("module.{}", name_in_point_mae(&name)), tensor)
    });
    let metrics = vec![(String::from("acc"), Tensor::from(accuracy as f32))];
    let entries = [
        (String::from("base_model"), Entry::StateDict(foreign.collect())),
        (String::from("best_metrics"), Entry::StateDict(metrics)),
    ];
    write_dict(&place.path(to), &entries).unwrap();
}

/// The name that the code of Point-MAE would give a tensor of a network with one hidden layer in its head.
fn name_in_point_mae(name: &str) -> String {
    for (ours, theirs) in [("0.0", 0), ("0.1", 1), ("2.0", 4)] {
        if let Some(tensor) = name.strip_prefix(&format!("prediction.head.{ours}.")) {
            return format!("cls_head_finetune.{theirs}.{tensor}");
        }
    }
    name.strip_prefix("encoder.").unwrap().to_owned()
}

#[test]
fn weights_in_a_file_are_audited_as_their_run_is_evaluated() {
    let place = place();
    let tuned = place.tune("tuned-a", "data", &["data.point_choice=farthest"]);
    succeeded(&place.run(&["export", "tuned-a", "--whole", "--out", "whole.pth"]));
    let audit = |file: &str, more: &[&str]| {
        let common = ["audit", file, "--task", "classify", "--config", "mini"];
        place.train(&[&common[..], more].concat(), &[])
    };
    let claim = ["--data", "data", "--claim", "12.5", "--out", "audited"];
    let text = succeeded(&audit("whole.pth", &claim));
    let accuracy = tuned["accuracy"].as_f64().unwrap();
    let difference = format!(
        "claimed 12.50 % (as typed): {:.2} points more",
        100.0 * accuracy - 12.5
    );
    for needed in [
        difference.as_str(),
        "taken as best on test",
        "no voting",
        "64 of 96 points by farthest-point sampling",
        "no import of a published set",
    ] {
        assert!(text.contains(needed), "'{needed}' is missing: {text}");
    }
    let audited = place.read("audited/result.json");
    assert_eq!(
        audited["confusion"], tuned["confusion"],
        "the same answers: {audited}"
    );
    assert_eq!(audited["data_sha256"], tuned["data_sha256"], "{audited}");
    assert_eq!(audited["audit"]["claim"]["percent"], 12.5, "{audited}");
    let table = succeeded(&place.run(&["table", "audited", "tuned-a"]));
    assert!(
        table.contains("whole.pth, audited as mini, claims 12.50") && table.contains("last step, 0 votes"),
        "{table}"
    );

    // Votes are those of an evaluation, averaged as it is told.
    let votes = ["--votes", "3", "--vote-average", "logits"];
    let voted = json(&audit(
        "whole.pth",
        &[&["--data", "data", "--json"], &votes[..]].concat(),
    ));
    let evaluate = [
        "evaluate",
        "--run",
        "tuned-a",
        "--data",
        "data",
        "--json",
        "--threads",
        "1",
    ];
    let evaluated = json(&place.run(&[&evaluate[..], &votes].concat()));
    assert_eq!(evaluated["votes_average"], "logits", "{evaluated}");
    assert_eq!(voted["voted"]["confusion"], evaluated["confusion"], "{voted}");
    assert_eq!(voted["voted"]["votes_average"], "logits", "{voted}");
    assert_eq!(
        voted["confusion"], tuned["confusion"],
        "beside the plain pass: {voted}"
    );
    assert_eq!(json(&place.run(&evaluate))["votes_average"], "probabilities");
}

#[test]
fn heads_of_others_are_read_in_the_order_of_their_classes() {
    let place = place();
    let tuned = place.tune("tuned-o", "data", &["data.point_choice=farthest"]);
    // As an import of a published set whose labels are not sorted by name.
    let imported =
        serde_json::json!({ "import": { "set": "scans", "source_classes": ["cone", "ball", "box"] } });
    place.copy_data_with("imported", imported, 3, |split, _, _| split);
    write_as_others_do(place, "tuned-o", "others.pth", [2, 0, 1], 87.5);
    let audit = |more: &[&str]| {
        let common = [
            "audit",
            "others.pth",
            "--task",
            "classify",
            "--config",
            "mini",
            "--json",
        ];
        place.train(&[&common[..], more].concat(), &[])
    };
    let found = json(&audit(&["--data", "imported"]));
    assert_eq!(found["confusion"], tuned["confusion"], "{found}");
    assert_eq!(found["audit"]["prefix"], "base_model.module.", "{found}");
    let claim = &found["audit"]["claim"];
    assert_eq!(
        (&claim["percent"], &claim["source"]),
        (&87.5.into(), &"'best_metrics.acc' of the file".into())
    );
    let reasons = found["audit"]["not_comparable"].to_string();
    assert!(
        reasons.contains("does not name its classes")
            && reasons.contains("not recognized as a published version"),
        "{reasons}"
    );
    let as_sorted = json(&audit(&["--data", "imported", "--class-order", "data"]));
    assert_ne!(
        as_sorted["confusion"], tuned["confusion"],
        "in another order: {as_sorted}"
    );
    let text = refused(&audit(&["--data", "data", "--class-order", "source"]));
    assert!(text.contains("in which order"), "{text}");
}

#[test]
fn what_is_no_whole_network_for_the_data_is_not_audited() {
    let place = place();
    let tuned = place.tune("tuned-f", "data", &["finetune.steps=2"]);
    assert!(tuned["accuracy"].is_number(), "{tuned}");
    let audit = |file: &str, data: &str| {
        let common = [
            "audit", file, "--task", "classify", "--config", "mini", "--data", data, "--out", "no-audit",
        ];
        refused(&place.train(&common, &[]))
    };
    succeeded(&place.run(&["export", "tap", "--out", "encoder.pth"]));
    let text = audit("encoder.pth", "data");
    assert!(
        text.contains("fits a network of mini for classify") || text.contains("not all of it"),
        "{text}"
    );
    write_as_others_do(place, "tuned-f", "three.pth", [0, 1, 2], 50.0);
    place.copy_data_with("two", serde_json::json!({}), 2, |split, _, _| split);
    let text = audit("three.pth", "two");
    assert!(
        text.contains("the head of the file tells 3 labels apart, and the data has 2"),
        "{text}"
    );
    fs::write(place.path("notes.pth"), "accuracy 99 %").unwrap();
    assert!(audit("notes.pth", "data").contains("not a readable PyTorch file"));
    fs::copy(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pth/hostile.pth"),
        place.path("hostile.pth"),
    )
    .unwrap();
    assert!(audit("hostile.pth", "data").contains("fit"));
    assert!(
        !place.path("owned-by-a-checkpoint").exists(),
        "nothing of it was run"
    );
    assert!(!place.path("no-audit").exists(), "nothing was written");
    let folder = audit("tuned-f", "data");
    assert!(folder.contains("tap-train evaluate --run"), "{folder}");
}

#[test]
fn features_are_drawn_in_the_colors_of_their_classes() {
    let place = place();
    let embed = |out: &str, more: &[&str]| {
        let common = [
            "embed",
            "--data",
            "data",
            "--init",
            "tap",
            "--out",
            out,
            "--plot",
            "features.svg",
        ];
        place.run(&[&common[..], more].concat())
    };
    succeeded(&embed("drawn", &[]));
    let svg = fs::read_to_string(place.path("features.svg")).unwrap();
    assert_eq!(
        svg.matches("<circle").count(),
        27 + 3,
        "objects and legend: {svg}"
    );
    for class in ["ball (9)", "box (9)", "cone (9)"] {
        assert!(svg.contains(class), "{class}: {svg}");
    }
    assert!(refused(&embed("drawn-again", &[])).contains("--force"));
    succeeded(&embed("drawn-again", &["--force"]));
    assert_eq!(
        fs::read_to_string(place.path("features.svg")).unwrap(),
        svg,
        "the same again"
    );
    fs::write(place.path("features.svg"), "<svg>mine</svg>").unwrap();
    assert!(refused(&embed("drawn-again", &["--force"])).contains("features.svg"));
}
