//! The paper's main tables: their figures, what is said where data is missing, and a run on what is there.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod program;
mod shape;

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tap_train::config::{DatasetInfo, Task};
use tap_train::method;
use tap_train::task::published::{FEW_SHOT, FEW_SHOT_SETTINGS, PUBLISHED};
use tap_train::task::sweep::{REPRODUCTIONS, Row, Sweep};

fn reproduce(folder: &Path, arguments: &[&str]) -> Output {
    program::run(folder, &[&["reproduce"], arguments].concat())
}

#[test]
fn figures_are_those_that_stand_beside_results() {
    let benchmarks = [
        ("table1", "OBJ_BG", "scanobjectnn OBJ_BG", "accuracy"),
        ("table1", "OBJ_ONLY", "scanobjectnn OBJ_ONLY", "accuracy"),
        ("table1", "PB_T50_RS", "scanobjectnn PB_T50_RS", "accuracy"),
        ("table2", "PB_T50_RS", "scanobjectnn PB_T50_RS", "accuracy"),
        ("table2", "ModelNet40", "modelnet40", "accuracy"),
        ("table3", "class mIoU", "shapenetpart", "class mIoU"),
        ("table3", "instance mIoU", "shapenetpart", "instance mIoU"),
    ];
    let mut num_compared = 0;
    for (table, column, benchmark, measure) in benchmarks {
        let sweep = Sweep::load(table, None, &[]).unwrap();
        for row in &sweep.rows {
            let published = PUBLISHED.iter().find(|published| {
                published.benchmark == benchmark
                    && published.measure == measure
                    && published.method == row.title
            });
            if let (Some(published), Some(figure)) = (published, row.published.get(column)) {
                assert!(
                    (published.percent - figure).abs() < 1e-9,
                    "{table}, {}, {column}: {figure}",
                    row.name
                );
                num_compared += 1;
            }
        }
    }
    assert_eq!(num_compared, 25, "figures of TAP, Point-MAE and from scratch");
    let sweep = Sweep::load("table4", None, &[]).unwrap();
    for (method, scores) in FEW_SHOT {
        let Some(row) = sweep.rows.iter().find(|row| row.title == method) else {
            continue;
        };
        for (setting, (mean, _)) in FEW_SHOT_SETTINGS.iter().zip(scores) {
            assert!(
                (row.published[*setting] - mean).abs() < 1e-9,
                "{method}, {setting}"
            );
        }
    }
}

#[test]
fn every_pretraining_is_a_plan_under_both_budgets() {
    for (budget, image_size_px) in [("mini", 64), ("paper", 224)] {
        let info = DatasetInfo {
            sha256: String::from("d"),
            num_rows: [526, 0, 133],
            num_train_rows: 526,
            num_views: 12,
            image_size_px,
            parts_by_class: vec![vec![0, 1]; 3],
            ..DatasetInfo::default()
        };
        for table in REPRODUCTIONS {
            let sweep = Sweep::load(table, Some(budget), &[]).unwrap();
            let is_run = |row: &&Row| row.not_run.is_empty();
            for row in sweep.rows.iter().filter(is_run) {
                let config = sweep.config_of(row, None).unwrap();
                let plan = method::plan(None, &config, Task::Pretrain, 0, "none", &info)
                    .unwrap_or_else(|error| panic!("{budget}, {table}, {}: {error}", row.name));
                for task in sweep.tasks_of(row) {
                    // A task learns from the encoder that was pre-trained.
                    let config = sweep.config_of(row, Some(task)).unwrap();
                    assert_eq!(config.encoder, plan.encoder, "{budget}, {table}, {}", row.name);
                    assert!(sweep.data.contains_key(&task.data), "{table}: {}", task.data);
                }
            }
        }
    }
}

#[test]
fn what_is_missing_is_named_with_where_it_is_from() {
    let folder = tempfile::tempdir().unwrap();
    let output = reproduce(folder.path(), &["table2", "--data", "sets", "--out", "out"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for needed in [
        "there is no ",
        "tap dataset import scanobjectnn",
        "tap dataset import modelnet40",
        "tap dataset import mvcnn",
        "no row can be run",
    ] {
        assert!(text.contains(needed), "'{needed}' is missing:\n{text}");
    }
    assert!(!folder.path().join("out").exists(), "nothing was written");
    let wrong = reproduce(folder.path(), &["table6a", "--data", "sets", "--out", "out"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
}

#[test]
fn a_table_is_run_on_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    shape::write(&folder.path().join("sets/shapenet"), 4, 64, 256);
    shape::write_points(&folder.path().join("sets/scanobjectnn-pb-t50-rs"), 4, 256, &[]);
    let few = [
        "table2",
        "--data",
        "sets",
        "--out",
        "out",
        "--seeds",
        "1",
        "--set",
        "pretrain.steps=2",
        "--set",
        "finetune.steps=2",
        "--set",
        "data.num_points=256",
    ];
    let output = reproduce(folder.path(), &few);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for needed in [
        "88.5 (+1.1)",
        "not run: modelnet40: there is no ",
        "tap dataset import modelnet40",
        "not comparable with what is published: scanobjectnn-pb-t50-rs is data of its own",
    ] {
        assert!(text.contains(needed), "'{needed}' is missing:\n{text}");
    }
    let result: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("out/sweep.json")).unwrap()).unwrap();
    assert_eq!(result["columns"], serde_json::json!(["PB_T50_RS"]), "{result}");
    assert_eq!(result["rows"][1]["runs"].as_array().unwrap().len(), 2, "{result}");
    let finetuned = &result["rows"][1]["runs"][1];
    assert!(
        finetuned["init_sha256"].is_string(),
        "from the pre-training: {finetuned}"
    );
    assert!(result["rows"][0]["runs"][0]["init_sha256"].is_null(), "{result}");
}
