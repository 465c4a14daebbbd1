//! Which rows are trained on and scored: those of which a condition is true, and those of several data sets by weight.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shape;
mod small;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tap_dataset::Split;
use tap_train::config::{Config, Task};
use tap_train::data::collator::ViewSampling;
use tap_train::data::source::SampleSource;
use tap_train::run::Existing;
use tap_train::run::weights::WeightChoice;
use tap_train::task::classify::Classify;
use tap_train::task::finetune::{Scoring, evaluate, finetune};
use tap_train::task::pretrain::pretrain;
use tap_train::task::vote::Votes;
use tap_train::task::{DataChoice, OpenData, train_batches};

use small::{config, options, run, turn};

/// A folder with two data sets: ten objects a class, and four.
fn place() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let [large, few] = ["large", "few"].map(|name| folder.path().join(name));
    shape::write(&large, 10, 16, 64);
    shape::write(&few, 4, 16, 64);
    (folder, large, few)
}

/// How often each row comes within the first steps, as (set, id).
fn draws(data: &Path, config: &Config, num_steps: u64) -> BTreeMap<(usize, String), usize> {
    let data = OpenData::choose(data, DataChoice::of(&config.data)).unwrap();
    let (plan, rows) = data.plan(None, config, Task::Pretrain, 0, "none").unwrap();
    let num_first = rows.rows_per_set()[0];
    let batches = train_batches(&plan, Arc::new(rows), ViewSampling::Random(2)).unwrap();
    let mut counts = BTreeMap::new();
    for step in 0..num_steps {
        for (_, row) in batches.sampler().batch(step) {
            let id = batches.rows(&[row]).unwrap().ids.remove(0);
            *counts.entry((usize::from(row >= num_first), id)).or_insert(0) += 1;
        }
    }
    counts
}

fn mix(data: &Path, weight: &str) -> String {
    format!("data.mix=[{{data={:?}{weight}}}]", data.to_str().unwrap())
}

#[test]
fn a_mixture_has_its_shares_and_without_weights_every_row_once() {
    let (_folder, large, few) = place();
    let shares = |weight: &str| {
        let counts = draws(
            &large,
            &config(&[&mix(&few, weight)], &["pretrain.last_batch=carry"]),
            21,
        );
        let of_set = |set: usize| {
            counts
                .iter()
                .filter(|((of, _), _)| *of == set)
                .map(|(_, count)| count)
                .sum()
        };
        let largest = counts.values().copied().max().unwrap();
        let sums: [usize; 2] = [of_set(0), of_set(1)];
        (sums, largest)
    };
    // 42 rows, 21 steps of 4: two epochs.
    assert_eq!(shares(""), ([60, 24], 2));
    assert_eq!(
        shares(",weight=1"),
        ([42, 42], 4),
        "half of 84 samples are of 12 rows"
    );
    assert_eq!(shares(",weight=0.5"), ([56, 28], 3));
}

#[test]
fn a_condition_chooses_what_is_trained_on_and_scored() {
    let _turn = turn();
    let (folder, large, few) = place();
    let out = folder.path().join("run");
    let balls = config(&["data.where=\"category <> 'cone'\""], &[]);
    let counts = draws(&large, &balls, 10);
    assert_eq!(counts.len(), 20, "two classes: {counts:?}");
    let (result, losses) = run(
        &balls,
        &options(&large, out.clone(), Existing::Refuse, 1),
        u64::MAX,
    );
    let result = result.unwrap();
    assert_eq!(result.filter.as_deref(), Some("category <> 'cone'"));
    assert_eq!(losses.len(), 12);

    // The run is resumed with its own condition, and with no other.
    let resume = |config: &Config, data: &Path| {
        let options = options(data, out.clone(), Existing::Resume, 1);
        pretrain(config, &options, None, &AtomicBool::new(false), &mut |_| {})
    };
    assert_eq!(resume(&balls, &large).unwrap().unwrap(), result);
    let error = resume(&config(&[], &[]), &large).unwrap_err().to_string();
    assert!(
        error.contains("data.where (\"category <> 'cone'\", now none)"),
        "{error}"
    );
    let mixed = config(&["data.where=\"category <> 'cone'\"", &mix(&few, "")], &[]);
    let error = resume(&mixed, &large).unwrap_err().to_string();
    assert!(error.contains("data.mix (none, now "), "{error}");
}

#[test]
fn a_score_says_of_which_rows_it_is() {
    let _turn = turn();
    let (folder, large, few) = place();
    let out = folder.path().join("tuned");
    let config = config(
        &[
            "finetune.steps=3",
            "finetune.batch_size=6",
            &mix(&few, ",weight=0.5"),
        ],
        &[],
    );
    let tuned = finetune::<Classify>(
        &config,
        &options(&large, out.clone(), Existing::Refuse, 1),
        0,
        None,
        &AtomicBool::new(false),
        &mut |_| {},
    );
    let tuned = tuned.unwrap().unwrap();
    assert_eq!(
        (tuned.provenance.mix.len(), tuned.score.confusion.total()),
        (1, 15),
        "scored on --data alone"
    );
    let score = |filter| {
        let rows = Scoring {
            split: Split::Test,
            filter,
            refines: false,
        };
        let options = options(&large, out.clone(), Existing::Resume, 1);
        evaluate::<Classify>(
            &options,
            rows,
            Votes::default(),
            &WeightChoice::Finished,
            &mut |_| {},
        )
    };
    let boxes = score("category = 'box'").unwrap();
    assert_eq!(boxes.score.confusion.total(), 5);
    assert_eq!(boxes.provenance.filter.as_deref(), Some("category = 'box'"));
    for (filter, parts) in [
        ("category = 'sofa'", ["no row in split test", "category = 'sofa'"]),
        ("colour = 'red'", ["no column \"colour\"", "category, "]),
        ("category ==", ["data.where", "at character"]),
    ] {
        let error = score(filter).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[test]
fn data_that_does_not_go_together_is_refused() {
    let (folder, large, _) = place();
    let (small, points) = (folder.path().join("small"), folder.path().join("points"));
    shape::write(&small, 2, 32, 64);
    shape::write_points(&points, 2, 64, &["box"]);
    let open = |setting: String| {
        let config = config(&[&setting], &[]);
        OpenData::choose(&large, DataChoice::of(&config.data))
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let error = open(mix(&small, ""));
    assert!(
        error.contains("12 views of 32 pixels") && error.contains("small"),
        "{error}"
    );
    let error = open(mix(&folder.path().join("nowhere"), ""));
    assert!(error.contains("nowhere"), "{error}");
    let [large_text, small_text] = [&large, &small].map(|path| path.to_str().unwrap());
    let error = open(format!(
        "data.mix=[{{data={large_text:?},weight=1}},{{data={small_text:?}}}]"
    ));
    assert!(error.contains("give each one a weight, or none"), "{error}");
    let error = Config::load(None, &[mix(&small, ",weight=0")])
        .unwrap_err()
        .to_string();
    assert!(error.contains("weight"), "{error}");
}
