//! The suite of synthesized stand-ins through the programs: made in one command, learned by each task, and above what a majority
//! guess and the nearest neighbor by a histogram of distances reach; killed, on a full disk, and on bad input.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "what a floor is chosen by")]

mod util;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tap_dataset::{Dataset, Sample, Split, ViewSelection};
use util::{Outcome, TestDir, has_trainer, kill_after};

/// What the networks of this test reach and the two baselines do not; `docs/datasets.md`, "Synthesized stand-ins".
const SHAPES_FLOOR: f64 = 0.65;
const SCANS_FLOOR: f64 = 0.36;
const PARTS_FLOOR: f64 = 0.4;
const FEW_SHOT_FLOOR: f64 = 0.6;
const SVM_FLOOR: f64 = 0.62;
const RETRIEVAL_FLOOR: f64 = 0.6;

#[test]
fn every_task_learns_what_no_histogram_tells() {
    if !has_trainer() {
        return;
    }
    let place = TestDir::new();
    let suite = [
        "dataset",
        "synthesize",
        "--suite",
        "data",
        "--classes",
        "8",
        "--per-class",
        "30",
    ];
    let text = place.run(&suite).succeeds().stdout;
    assert_eq!(text.lines().count(), 6, "a line a set: {text}");
    assert!(
        text.contains("scanobjectnn-pb-t50-rs, a synthesized stand-in for ScanObjectNN PB_T50_RS"),
        "{text}"
    );
    let pretrain = "train pretrain --data data/shapenet --out run";
    let settings = ["pretrain.steps=150", "log.images_every=0"];
    run(&place, pretrain, &settings).succeeds();

    let shapes = Objects::read(&place, "data/modelnet40");
    let accuracy = classify(&place, "data/modelnet40", "shapes", "finetune.steps=120");
    above(
        "classification of shapes",
        SHAPES_FLOOR,
        accuracy,
        shapes.baselines(),
    );
    let scans = Objects::read(&place, "data/scanobjectnn-pb-t50-rs");
    let accuracy = classify(
        &place,
        "data/scanobjectnn-pb-t50-rs",
        "scans",
        "finetune.steps=160",
    );
    above(
        "classification of scans",
        SCANS_FLOOR,
        accuracy,
        scans.baselines(),
    );

    let parts = Objects::read(&place, "data/shapenetpart");
    let segment = "train finetune --task segment --data data/shapenetpart --init run --out parts --json";
    let result = run(
        &place,
        segment,
        &["segment.steps=90", "segment.batch_size=8", "data.num_points=256"],
    )
    .succeeds()
    .json();
    let miou = result["score"]["plain"]["instance_miou"].as_f64().unwrap();
    above("segmentation", PARTS_FLOOR, miou, parts.part_baselines());

    let (accuracy, baselines) = few_shot(&place);
    above("few-shot", FEW_SHOT_FLOOR, accuracy, baselines);

    let probe = "train probe --data data/modelnet40 --init run --labels-per-class all --random-inits 0 --out probe --json";
    let result = run(&place, probe, &[]).succeeds().json();
    let svm = result["arms"][0]["svm"]["all"]["mean"].as_f64().unwrap();
    above("SVM probe", SVM_FLOOR, svm, shapes.baselines());

    let retrieve = "train retrieve --data data/modelnet40 --init shapes --out lists --json";
    let result = run(&place, retrieve, &[]).succeeds().json();
    let precision = result["micro"]["average_precision"].as_f64().unwrap();
    above(
        "retrieval",
        RETRIEVAL_FLOOR,
        precision,
        shapes.retrieval_baselines(),
    );

    let table = run(&place, "train table shapes scans", &[]).succeeds().stdout;
    assert!(
        table.contains("accuracy") && !table.contains("published"),
        "no published score stands beside a stand-in's: {table}"
    );
}

/// Few steps on few views, a seed, a fold.
#[test]
fn tables_of_parts_and_few_shot_run_from_end_to_end() {
    if !has_trainer() {
        return;
    }
    let place = TestDir::new();
    let sets = "shapenet,shapenetpart,modelnet40";
    let suite = format!("dataset synthesize --suite data --sets {sets} --classes 5 --per-class 20");
    run(&place, &suite, &[]).succeeds();
    let draw = "dataset import fewshot data/modelnet40 --out data/fewshot --ways 5 --shots 10 --folds 1 --num-test 2";
    run(&place, draw, &[]).succeeds();
    // Steps of pre-training are a row's own in Table 4, so they are made short and not few.
    let few = [
        "--set",
        "pretrain={steps=2,batch_size=2}",
        "--set",
        "data.num_views=1",
        "--set",
        "segment.steps=2",
        "--set",
        "finetune={steps=2,batch_size=4}",
    ];
    for (table, runs, columns) in [
        (
            "table3",
            "3 runs (2 parts, 1 pretrain)",
            vec!["class mIoU", "instance mIoU"],
        ),
        ("table4", "5 runs (3 fewshot, 2 pretrain)", vec!["5way_10shot"]),
    ] {
        let words = format!("train reproduce {table} --data data --budget mini --seeds 1");
        let words: Vec<&str> = words.split(' ').chain(few).collect();
        let text = place
            .run(&[&words[..], &["--dry-run"]].concat())
            .succeeds()
            .stdout;
        assert!(text.contains(runs) && !text.contains("not run"), "{text}");
        let out = ["--out", table, "--json"];
        let result = place.run(&[&words[..], &out].concat()).succeeds().json();
        assert_eq!(result["columns"], serde_json::json!(columns), "{result}");
        for row in result["rows"].as_array().unwrap() {
            assert_eq!(row["missing"], serde_json::json!([]), "{row}");
            let scored = row["runs"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|run| run["task"] != "pretrain");
            for run in scored {
                let scores: Vec<f64> = run["scores"]
                    .as_object()
                    .unwrap()
                    .values()
                    .filter_map(Value::as_f64)
                    .collect();
                assert_eq!(scores.len(), columns.len(), "{run}");
                assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)), "{run}");
            }
        }
        let notes = result["not_comparable"].to_string();
        assert!(
            notes.contains("data of its own") || notes.contains("stand-in"),
            "{notes}"
        );
        let finished = place
            .run(&["train", "reproduce", "--out", table, "--resume"])
            .succeeds();
        assert!(finished.stdout.contains("TAP"), "{finished:?}");
    }
}

/// Runs a command of words, with settings of the trainer; no evaluation but the last.
fn run(place: &TestDir, command: &str, settings: &[&str]) -> Outcome {
    let words: Vec<&str> = command.split(' ').collect();
    let trains = !settings.is_empty();
    let preset = ["--config", "mini", "--set", "log.validate_every=0"];
    let preset = preset.into_iter().filter(|_| trains);
    let settings = settings.iter().flat_map(|setting| ["--set", setting]);
    place.run(
        &words
            .into_iter()
            .chain(preset)
            .chain(settings)
            .collect::<Vec<_>>(),
    )
}

/// Accuracy of fine-tuning.
fn classify(place: &TestDir, data: &str, out: &str, steps: &str) -> f64 {
    let finetune = format!("train finetune --task classify --data {data} --init run --out {out} --json");
    let result = run(place, &finetune, &[steps]).succeeds().json();
    result["accuracy"].as_f64().unwrap()
}

/// Mean accuracy over episodes, and those of the baselines.
fn few_shot(place: &TestDir) -> (f64, [f64; 2]) {
    let draw =
        "dataset import fewshot data/modelnet40 --out episodes --ways 5 --shots 10 --folds 3 --num-test 6";
    run(place, draw, &[]).succeeds();
    let learn = "train few-shot --data episodes --init run --head svm --out few --json";
    let result = run(place, learn, &[]).succeeds().json();
    let folds: Vec<[f64; 2]> = (0..3)
        .map(|fold| Objects::read(place, &format!("episodes/5way_10shot/{fold}")).baselines())
        .collect();
    let mean = result["settings"][0]["accuracy"]["mean"].as_f64().unwrap();
    (
        mean,
        [0, 1].map(|baseline| folds.iter().map(|fold| fold[baseline]).sum::<f64>() / 3.0),
    )
}

/// The score is above the floor, and the baselines (majority, nearest histogram) are below it.
#[track_caller]
fn above(what: &str, floor: f64, score: f64, baselines: [f64; 2]) {
    let [majority, nearest] = baselines;
    println!("{what}: {score:.3}, majority {majority:.3}, nearest histogram {nearest:.3}, floor {floor}");
    assert!(
        majority < floor && nearest < floor,
        "{what}: the floor {floor} is reached by {baselines:?}"
    );
    assert!(score > floor, "{what}: {score} is not above {floor}");
}

/// Bins of a histogram.
const NUM_BINS: usize = 32;
/// Points between which distances are taken.
const NUM_POINTS: usize = 384;

/// The rows of a data set as the baselines see them.
struct Objects {
    train: Vec<Object>,
    test: Vec<Object>,
    /// Class of each part.
    class_of_part: Vec<String>,
}

struct Object {
    class: String,
    histogram: [f64; NUM_BINS],
    sample: Sample,
}

impl Object {
    /// Distances between points of an object, of unit mass, up to the longest: the shape distribution D2.
    fn new(sample: Sample) -> Self {
        let points = &sample.points[..NUM_POINTS];
        let pairs = || (0..NUM_POINTS).flat_map(|a| (0..a).map(move |b| (a, b)));
        let distances: Vec<f64> = pairs()
            .map(|(a, b)| distance2(&points[a], &points[b]).sqrt())
            .collect();
        let longest = distances.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let mut histogram = [0.0; NUM_BINS];
        for distance in &distances {
            let bin = (distance / longest * NUM_BINS as f64) as usize;
            histogram[bin.min(NUM_BINS - 1)] += 1.0 / distances.len() as f64;
        }
        Self {
            class: sample.category.clone(),
            histogram,
            sample,
        }
    }

    fn difference(&self, other: &Self) -> f64 {
        let bins = self.histogram.iter().zip(&other.histogram);
        bins.map(|(a, b)| (a - b).abs()).sum()
    }

    fn nearest<'a>(&self, others: impl Iterator<Item = &'a Self>) -> &'a Self {
        let order = |a: &&Self, b: &&Self| self.difference(a).total_cmp(&self.difference(b));
        others.min_by(order).unwrap()
    }
}

fn distance2(a: &[f32; 3], b: &[f32; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

/// Numbers of points in shells around a point.
type Histogram = [u16; 16];
/// Points that have one.
const NUM_WITH_HISTOGRAM: usize = 192;

/// Distances of each of the first points from the others, up to the diameter of the unit ball.
fn point_histograms(object: &Object) -> Vec<Histogram> {
    let points = &object.sample.points[..NUM_WITH_HISTOGRAM];
    let histogram = |point: &[f32; 3]| {
        let mut histogram = Histogram::default();
        for other in points {
            let bin = (distance2(point, other).sqrt() * 8.0) as usize;
            histogram[bin.min(15)] += 1;
        }
        histogram
    };
    points.iter().map(histogram).collect()
}

fn mean(numbers: impl ExactSizeIterator<Item = f64>) -> f64 {
    let len = numbers.len() as f64;
    numbers.sum::<f64>() / len
}

/// What occurs most often.
fn most_frequent<T: Ord>(items: impl Iterator<Item = T>) -> T {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    for item in items {
        *counts.entry(item).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).unwrap().0
}

impl Objects {
    fn read(place: &TestDir, data: &str) -> Self {
        let dataset = Dataset::open(&place.path(data)).unwrap();
        let [train, test] = [Split::Train, Split::Test].map(|split| {
            let rows = 0..dataset.len(split);
            let row = |row| dataset.read(split, row, ViewSelection::None).unwrap();
            rows.map(|index| Object::new(row(index))).collect::<Vec<_>>()
        });
        let parts = dataset.manifest().parts.iter();
        Self {
            train,
            test,
            class_of_part: parts.map(|part| part.category.clone()).collect(),
        }
    }

    /// Accuracy of the most frequent class, and of the class of the nearest training object by its histogram.
    fn baselines(&self) -> [f64; 2] {
        let most = most_frequent(self.train.iter().map(|object| &object.class));
        let is_right = |is_right: bool| f64::from(u8::from(is_right));
        [
            mean(self.test.iter().map(|object| is_right(object.class == *most))),
            mean(self.test.iter().map(|object| {
                let nearest = object.nearest(self.train.iter());
                is_right(nearest.class == object.class)
            })),
        ]
    }

    /// Instance mIoU of the most frequent part of the class, and of the part of the nearest point of the class's training
    /// objects by its histogram of distances. Both know the class.
    fn part_baselines(&self) -> [f64; 2] {
        let labels = |object: &Object| object.sample.part_labels.clone().unwrap();
        let of_class = |class: &str| {
            let class = class.to_owned();
            self.train.iter().filter(move |object| object.class == class)
        };
        [
            mean(self.test.iter().map(|object| {
                let most = most_frequent(of_class(&object.class).flat_map(labels));
                self.miou(object, &vec![most; object.sample.points.len()])
            })),
            mean(self.test.iter().map(|object| {
                let theirs: Vec<(Histogram, u8)> = of_class(&object.class)
                    .flat_map(|other| point_histograms(other).into_iter().zip(labels(other)))
                    .collect();
                let nearest = |own: Histogram| {
                    let difference = |(other, _): &(Histogram, u8)| {
                        let bins = own.iter().zip(other);
                        bins.map(|(a, b)| a.abs_diff(*b)).sum::<u16>()
                    };
                    theirs.iter().min_by_key(|&other| difference(other)).unwrap().1
                };
                let predicted: Vec<u8> = point_histograms(object).into_iter().map(nearest).collect();
                self.miou(object, &predicted)
            })),
        ]
    }

    /// Mean IoU of the first so many points over the parts of the object's class; 1 for a part that neither has.
    fn miou(&self, object: &Object, predicted: &[u8]) -> f64 {
        let truth = object.sample.part_labels.as_ref().unwrap();
        let parts = (0..self.class_of_part.len()).filter(|part| self.class_of_part[*part] == object.class);
        let ious: Vec<f64> = parts
            .map(|part| {
                let pairs = || {
                    truth
                        .iter()
                        .zip(predicted)
                        .map(|(a, b)| (usize::from(*a) == part, usize::from(*b) == part))
                };
                let both = pairs().filter(|(a, b)| *a && *b).count();
                let either = pairs().filter(|(a, b)| *a || *b).count();
                if either == 0 {
                    1.0
                } else {
                    both as f64 / either as f64
                }
            })
            .collect();
        mean(ious.into_iter())
    }

    /// Mean average precision of the test objects in an order of no meaning, and by their histograms; the query counts.
    fn retrieval_baselines(&self) -> [f64; 2] {
        let average_precision = |query: usize, key: &dyn Fn(usize) -> f64| {
            let mut order: Vec<usize> = (0..self.test.len()).collect();
            order.sort_by(|&a, &b| key(a).total_cmp(&key(b)));
            let mut num_found = 0.0;
            let mut sum = 0.0;
            for (place, &object) in order.iter().enumerate() {
                if self.test[object].class == self.test[query].class {
                    num_found += 1.0;
                    sum += num_found / (place as f64 + 1.0);
                }
            }
            sum / num_found
        };
        let queries = 0..self.test.len();
        [
            mean(queries.clone().map(|query| {
                // The query, and then the others in the order of their hashes.
                let hash = |object: usize| {
                    let digits = &self.test[object].sample.source_sha256[..8];
                    u32::from_str_radix(digits, 16).map_or(0.0, f64::from)
                };
                average_precision(query, &|object| if object == query { -1.0 } else { hash(object) })
            })),
            mean(queries.map(|query| {
                average_precision(query, &|object| self.test[query].difference(&self.test[object]))
            })),
        ]
    }
}

/// A part of the suite without views, with several shards.
const SMALL: [&str; 11] = [
    "dataset",
    "synthesize",
    "--classes",
    "4",
    "--per-class",
    "70",
    "--sets",
    "modelnet40,scanobjectnn-pb-t50-rs",
    "--threads",
    "2",
    "--suite",
];

fn small(root: &str) -> Vec<&str> {
    [&SMALL[..], &[root]].concat()
}

#[test]
fn a_suite_that_is_killed_again_and_again_has_the_bytes_of_an_unbroken_one() {
    let place = TestDir::new();
    place.run(&small("whole")).succeeds();
    for millis in [150, 400, 700, 1000, 1300] {
        kill_after(
            &mut place.command(&small("killed")),
            Duration::from_millis(millis),
        );
    }
    let mut again = small("killed");
    again[SMALL.iter().position(|word| *word == "2").unwrap()] = "1";
    place.run(&again).succeeds();
    let files = place.files("whole");
    assert!(files.len() >= 2 * 4, "{:?}", files.keys());
    assert!(place.files("killed") == files, "the same names and bytes");
    for set in ["modelnet40", "scanobjectnn-pb-t50-rs"] {
        place
            .run(&["dataset", "verify", &format!("killed/{set}")])
            .succeeds();
    }
}

/// Runs a command where no file may be longer than so many blocks of 512 or 1024 bytes.
#[cfg(target_os = "linux")]
fn on_a_full_disk(place: &TestDir, blocks: u32, arguments: &[&str]) -> Outcome {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_tap")])
        .args(arguments)
        .current_dir(place.path(""));
    Outcome::of(&mut command)
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_one_line_and_leaves_nothing_half_made() {
    let place = TestDir::new();
    let meshes = [
        "dataset",
        "synthesize",
        "--out",
        "meshes",
        "--classes",
        "2",
        "--per-class",
        "8",
    ];
    on_a_full_disk(&place, 8, &meshes).fails_with(&["write", "too large"]);
    assert!(place.files("").is_empty(), "{:?}", place.files("").keys());
    place.run(&meshes).succeeds();

    place.run(&small("whole")).succeeds();
    for blocks in [0, 16, 512] {
        on_a_full_disk(&place, blocks, &small("full")).fails_with(&["full", "too large"]);
        let verify = place.run(&["dataset", "verify", "full/modelnet40"]);
        assert_eq!(verify.code, Some(1), "not taken for a whole one: {verify:#?}");
    }
    place.run(&small("full")).succeeds();
    assert!(
        place.files("full") == place.files("whole"),
        "the same names and bytes"
    );
}

#[test]
fn wrong_command_lines_say_what_is_right() {
    let place = TestDir::new();
    let synthesize = |arguments: &[&str]| place.run(&[&["dataset", "synthesize"], arguments].concat());
    for (arguments, word) in [
        (&["--out", "a", "--family", "hard"][..], "basic, varied"),
        (
            &["--suite", "a", "--sets", "scanobjectnn"],
            "scanobjectnn-pb-t50-rs",
        ),
        (&["--suite", "a", "--out", "b"], "cannot be used with"),
        (&["--out", "a", "--sets", "shapenet"], "cannot be used with"),
        (&[], "--out"),
    ] {
        let outcome = synthesize(arguments).exits_with_2();
        assert!(outcome.stderr.contains(word), "{arguments:?}: {outcome:#?}");
    }
    synthesize(&["--out", "a", "--family", "varied", "--classes", "25"]).fails_with(&["1 to 24 classes"]);
    synthesize(&["--suite", "a", "--per-class", "4"]).fails_with(&["5 to 1000000 objects per class"]);
    place.write("b", "mine");
    synthesize(&["--suite", "b", "--sets", "modelnet40"]).fails_with(&["b/modelnet40"]);
    assert!(!place.path("a").exists(), "nothing was made");
}
