//! Sweeps through the program: the table of an unbroken one after a kill, rows that cannot be run, and the paper's tables as
//! `ABLATIONS.md` has them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod program;
mod shape;
mod small;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use program::{last_error, modified, succeeded};
use serde_json::Value;
use tap_train::config::{DatasetInfo, Task};
use tap_train::method;
use tap_train::task::sweep::{Need, Row, Sweep, TABLES};

/// A folder with `data` and the table of one's own that the documentation shows, `mine.toml`.
struct TestDir(tempfile::TempDir);

impl TestDir {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        shape::write(&folder.path().join("data"), 6, 16, 96);
        fs::write(folder.path().join("mine.toml"), documented()).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        program::command(self.0.path(), arguments)
    }

    /// A sweep of a table on `data` with a small network and few steps.
    fn sweep(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&["sweep", "--data", "data", "--seeds", "2"]);
        let few = [
            "pretrain.steps=12",
            "finetune.steps=6",
            "finetune.batch_size=4",
            "log.checkpoint_every=4",
            "log.num_images=0",
        ];
        for setting in small::NETWORK.iter().chain(&few) {
            command.args(["--set", setting]);
        }
        command.args(arguments);
        command
    }

    fn read(&self, name: &str) -> Value {
        program::json(&self.path(name))
    }
}

/// The table of `docs/training.md`, "A table of your own".
fn documented() -> String {
    let page = include_str!("../../docs/training.md");
    let (_, section) = page.split_once("### A table of your own").unwrap();
    let (_, block) = section.split_once("```toml\n").unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

#[track_caller]
fn wait_for(file: &Path) {
    let deadline = Instant::now() + Duration::from_mins(3);
    while !file.exists() {
        assert!(Instant::now() < deadline, "{} never came", file.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_documented_table_is_the_same_after_a_kill() {
    let place = TestDir::new();
    let arguments = ["mine.toml", "--out", "swept"];
    let start = |more: &[&str]| {
        let mut command = place.sweep(&arguments);
        command.args(more).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let first = place.path("swept/runs/four-seed0/pretrain/result.json");
    let mut process = start(&["--jobs", "1"]);
    wait_for(&first);
    process.kill().unwrap();
    process.wait().unwrap();
    let before = modified(&first);
    assert!(
        !place.path("swept/sweep.json").exists(),
        "no table of some of the runs"
    );
    let text = last_error(&place.sweep(&arguments).output().unwrap());
    assert!(text.contains("tap-train sweep --out swept --resume"), "{text}");
    let text = last_error(
        &place
            .sweep(&["mine.toml", "--out", "swept", "--resume", "--first-seed", "3"])
            .output()
            .unwrap(),
    );
    assert!(text.contains("--first-seed"), "{text}");

    // A second kill, in the middle of another pre-training; as many jobs as before.
    let mut process = place
        .command(&["sweep", "--out", "swept", "--resume"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(&place.path("swept/runs/two-seed0/pretrain/config.toml"));
    process.kill().unwrap();
    process.wait().unwrap();
    let request = fs::read_to_string(place.path("swept/request.toml")).unwrap();
    assert!(request.contains("jobs = 1\n"), "{request}");

    let output = place
        .command(&["sweep", "--out", "swept", "--resume", "--jobs", "2"])
        .output()
        .unwrap();
    let text = succeeded(&output);
    assert!(text.contains("Views per step and the ray bias"), "{text}");
    assert!(
        text.contains("fine-tuned, 5 labels") && text.contains("SVM, all labels"),
        "{text}"
    );
    assert_eq!(modified(&first), before, "a finished run is not run again");

    check_table(&place);
    let result = place.read("swept/sweep.json");
    let markdown = fs::read_to_string(place.path("swept/table.md")).unwrap();
    assert!(
        markdown.contains("| no-bias: 4 views per step, no ray bias |"),
        "{markdown}"
    );

    // The same numbers without a kill, whatever the number of jobs.
    succeeded(&place.sweep(&["mine.toml", "--out", "unbroken"]).output().unwrap());
    assert_eq!(place.read("unbroken/sweep.json"), result);
    assert_eq!(
        fs::read_to_string(place.path("unbroken/table.md")).unwrap(),
        markdown
    );

    // Nothing is left to do; the table is printed again.
    let again = place
        .command(&["sweep", "--out", "swept", "--resume", "--json"])
        .output()
        .unwrap();
    let printed: Value = serde_json::from_str(&succeeded(&again)).unwrap();
    assert_eq!(printed, result);
    // A sweep that is replaced leaves nothing behind.
    fs::write(place.path("swept/notes.txt"), "mine").unwrap();
    let text = last_error(
        &place
            .sweep(&["mine.toml", "--out", "swept", "--force"])
            .output()
            .unwrap(),
    );
    assert!(text.contains("notes.txt"), "{text}");
    assert!(first.is_file(), "nothing was removed");
}

/// The finished sweep in `swept`: each number is that of its run.
fn check_table(place: &TestDir) {
    let result = place.read("swept/sweep.json");
    let rows = result["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4, "{result}");
    for row in rows {
        let name = row["name"].as_str().unwrap();
        let scores = row["scores"].as_array().unwrap();
        assert_eq!(scores.len(), 3, "{name}: {row}");
        for score in scores {
            assert_eq!(score["seeds"], serde_json::json!([0, 1]), "{name}");
            assert_eq!(
                score["difference"].is_null(),
                name == "four",
                "differences are to the baseline: {score}"
            );
        }
        let of_row = place.read(&format!("swept/rows/{name}.json"));
        assert_eq!(of_row["scores"], row["scores"], "{name}");
        assert_eq!(of_row["data_sha256"], result["data_sha256"], "{name}");
        for run in of_row["runs"].as_array().unwrap() {
            let folder = run["folder"].as_str().unwrap();
            assert!(place.path("swept").join(folder).is_dir(), "{run}");
        }
    }
    // The score is that of the run, and the difference that of the two runs.
    let accuracy = |row: &str, seed: u64| {
        let run = place.read(&format!("swept/runs/{row}-seed{seed}/finetune/result.json"));
        assert_eq!(run["seed"].as_u64(), Some(seed), "{run}");
        run["accuracy"].as_f64().unwrap()
    };
    let difference =
        (accuracy("two", 0) - accuracy("four", 0) + accuracy("two", 1) - accuracy("four", 1)) / 2.0;
    let of_two = &rows[1]["scores"][0];
    assert!(
        (of_two["difference"]["mean"].as_f64().unwrap() - difference).abs() < 1e-12,
        "{of_two}"
    );
    let pretrained = place.read("swept/runs/two-seed1/pretrain/result.json");
    assert_eq!(pretrained["seed"], 1, "a seed is that of its pre-training too");
    let views = fs::read_to_string(place.path("swept/runs/no-bias-seed0/pretrain/config.toml")).unwrap();
    assert!(!views.contains("ray_bias"), "{views}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_cleanly_and_says_how_to_go_on() {
    let place = TestDir::new();
    let child = place
        .sweep(&[
            "mine.toml",
            "--out",
            "swept",
            "--jobs",
            "1",
            "--set",
            "pretrain.steps=4000",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&place.path("swept/runs/four-seed0/pretrain/metrics.jsonl"));
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().last().unwrap_or_default();
    assert!(
        last.contains("0 of 22 runs are finished") && last.contains("tap-train sweep --out swept --resume"),
        "{text}"
    );
    let checkpoints = fs::read_dir(place.path("swept/runs/four-seed0/pretrain/checkpoints")).unwrap();
    assert!(checkpoints.count() > 0, "the run wrote its checkpoint");
}

#[test]
fn a_row_that_cannot_be_run_says_so_and_the_others_go_on() {
    let place = TestDir::new();
    let table = r#"
        preset = "table7b"
        published = ["PB_T50_RS"]
        title = "What cannot be run"
        baseline = "G4"

        [[budget.mini.task]]
        name = "probe"
        command = "probe"
        labels_per_class = [2]

        [[budget.mini.task]]
        name = "parts"
        command = "segment"
        data = "elsewhere"

        [[row]]
        name = "G4"
        title = "foreground 20"
        published = { PB_T50_RS = 88.5 }
        budget.mini = { note = "as it is" }

        [[row]]
        name = "H1"
        title = "perceptual alone"
        published = { PB_T50_RS = 86.3 }
        set = ["loss.perceptual_weight=2"]
        needs = ["vgg"]
        note = "dear"

        [[row]]
        name = "wide"
        title = "three pixels more than the data has"
        set = ["decoder.layers=[{channels=1,stride=2}]"]

        [[row]]
        name = "elsewhere"
        title = "not of this program"
        published = { PB_T50_RS = 80.0 }
        not_run = "published by others"
    "#;
    fs::write(place.path("odd.toml"), table).unwrap();

    let plan = place.sweep(&["odd.toml", "--dry-run"]).output().unwrap();
    let text = succeeded(&plan);
    assert!(
        text.contains("4 rows, 2 seeds: 4 runs (2 pretrain, 2 probe)"),
        "{text}"
    );
    let text = succeeded(&place.sweep(&["odd.toml", "--out", "out"]).output().unwrap());
    for needed in [
        "88.5",
        "86.3 (-2.2)",
        "H1: dear; not run: it needs torchvision's weights of VGG16: --vgg FILE",
        "elsewhere: not run: published by others",
        "G4: as it is; not run: parts: there is no ",
        "wide: not run: ",
        "not comparable with what is published: scored on data of its own",
    ] {
        assert!(text.contains(needed), "'{needed}' is missing:\n{text}");
    }
    let result = place.read("out/sweep.json");
    assert_eq!(
        result["columns"],
        serde_json::json!(["SVM, 2 labels"]),
        "{result}"
    );
    assert_eq!(
        result["rows"][0]["scores"][0]["by_seed"]
            .as_array()
            .unwrap()
            .len(),
        2,
        "{result}"
    );
}

#[test]
fn a_wrong_table_is_refused_in_one_line() {
    let place = TestDir::new();
    let refused_as = |text: String, needed: &str| {
        fs::write(place.path("wrong.toml"), text).unwrap();
        let line = last_error(&place.sweep(&["wrong.toml", "--out", "out"]).output().unwrap());
        assert!(line.contains(needed), "'{needed}' is missing: {line}");
        assert!(!place.path("out").exists(), "nothing was written");
    };
    let documented = documented();
    refused_as(documented.replace("name = \"two\"", "name = \"t/wo\""), "'t/wo'");
    refused_as(
        documented.replace("name = \"two\"", "name = \"four\""),
        "two rows 'four'",
    );
    refused_as(
        documented.replace("baseline = \"four\"", "baseline = \"five\""),
        "no row 'five'",
    );
    refused_as(
        documented.replace("data.num_views=2", "data.num_view=2"),
        "row 'two'",
    );
    refused_as(documented.replace("seeds = 3", "seed = 3"), "seed");
    refused_as(documented.replace("[5]", "[0]"), "above 0");
    refused_as(
        documented.replace(
            "[5, \"all\"]",
            "[5]\nscores = [{ title = \"x\", of = \"svm 10\" }]",
        ),
        "labels_per_class",
    );
    let unknown = last_error(&place.sweep(&["table9", "--out", "out"]).output().unwrap());
    assert!(unknown.contains("table6a"), "{unknown}");
    let unknown = last_error(
        &place
            .sweep(&["mine.toml", "--budget", "huge", "--out", "out"])
            .output()
            .unwrap(),
    );
    assert!(unknown.contains("no budgets"), "{unknown}");
}

/// Rows of `ABLATIONS.md`: label, figure, settings.
fn ablations() -> Vec<(String, f64, BTreeSet<String>)> {
    let table = include_str!("../../ABLATIONS.md");
    let rows = table
        .lines()
        .filter(|line| line.starts_with("| 6") || line.starts_with("| 7"));
    let parsed = rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let settings = cells[2].split('`').filter(|setting| setting.contains('='));
        let settings = settings.filter(|setting| !setting.starts_with("loss.perceptual_network"));
        (
            cells[0].to_owned(),
            cells[1].parse().unwrap(),
            settings.map(str::to_owned).collect(),
        )
    });
    parsed.collect()
}

#[test]
fn the_tables_are_those_of_the_page_of_ablations() {
    let ablations = ablations();
    let mut found = BTreeSet::new();
    for table in TABLES {
        let sweep = Sweep::load(table, Some("paper"), &[]).unwrap();
        let number = table.trim_start_matches("table");
        for row in &sweep.rows {
            let labels = [
                format!("{number} {}: {}", row.name, row.title),
                format!("{number}: {}", row.title),
            ];
            let figure = row.published.get("PB_T50_RS").copied();
            let Some((label, accuracy, settings)) =
                ablations.iter().find(|(label, ..)| labels.contains(label))
            else {
                assert!(
                    row.own.is_empty() && (row.is_scratch || row.name == "plain" || figure == Some(88.5)),
                    "{table}, {}: not in ABLATIONS.md",
                    row.name
                );
                continue;
            };
            assert_eq!(figure, Some(*accuracy), "{label}");
            assert_eq!(
                row.own.iter().cloned().collect::<BTreeSet<_>>(),
                *settings,
                "{label}"
            );
            let asks_for_vgg = settings
                .iter()
                .any(|setting| setting.starts_with("loss.perceptual"));
            assert_eq!(row.needs.contains(&Need::Vgg), asks_for_vgg, "{label}");
            assert!(found.insert(label.clone()), "{label} twice");
        }
    }
    let missing: Vec<&String> = ablations
        .iter()
        .map(|(label, ..)| label)
        .filter(|label| !found.contains(*label))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_row_is_a_plan_of_its_own_under_both_budgets() {
    for (budget, image_size_px) in [("mini", 64), ("paper", 224)] {
        let info = DatasetInfo {
            sha256: String::from("d"),
            num_rows: [526, 0, 133],
            num_train_rows: 526,
            num_views: 12,
            image_size_px,
            ..DatasetInfo::default()
        };
        for table in TABLES {
            let sweep = Sweep::load(table, Some(budget), &[]).unwrap();
            let mut hashes = BTreeSet::new();
            let mut num_pretrained = 0;
            let is_pretrained = |row: &&Row| !row.is_scratch && row.not_run.is_empty();
            for row in sweep.rows.iter().filter(is_pretrained) {
                let mut config = sweep.config_of(row, None).unwrap();
                if row.needs.contains(&Need::Vgg) {
                    config = config
                        .with_settings(&[String::from("loss.perceptual_network=vgg16.safetensors")])
                        .unwrap();
                }
                let plan = method::plan(None, &config, Task::Pretrain, 0, "none", &info)
                    .unwrap_or_else(|error| panic!("{budget}, {table}, {}: {error}", row.name));
                hashes.insert(plan.sha256());
                num_pretrained += 1;
            }
            assert_eq!(
                hashes.len(),
                num_pretrained,
                "{budget}, {table}: rows that are alike"
            );
        }
    }
}
