//! `--checkpoint` through the program: which weights of a run each command takes, and what it says where they are not there.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod program;
mod shape;
mod small;

use std::path::PathBuf;
use std::process::Output;
use std::sync::OnceLock;

use program::{stderr, succeeded};
use serde_json::Value;
use tap_train::weights::safetensors::file_sha256;

const SETTINGS: [&str; 3] = [
    "pretrain.steps=6",
    "finetune={unit='step',batch_size=6,steps=6,select='best-on-test'}",
    "log={checkpoint_every=2,validate_every=2,num_images=0,keep_checkpoints=9}",
];

/// A folder with the data set `data`, the pre-trained run `tap` and the fine-tuned run `tuned`.
struct TestDir(tempfile::TempDir);

impl TestDir {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        program::run(self.0.path(), arguments)
    }

    fn train(&self, arguments: &[&str], settings: &[&str]) -> Output {
        let settings = small::NETWORK.iter().chain(&SETTINGS).chain(settings);
        let settings = settings.flat_map(|setting| ["--set", setting]);
        let arguments: Vec<&str> = arguments.iter().copied().chain(settings).collect();
        self.run(
            &[
                &arguments[..],
                &["--data", "data", "--device", "cpu", "--threads", "1"],
            ]
            .concat(),
        )
    }

    fn json(&self, name: &str) -> Value {
        program::json(&self.path(name))
    }

    fn sha256(&self, file: &str) -> String {
        file_sha256(&self.path(file)).unwrap()
    }
}

fn place() -> &'static TestDir {
    static PLACE: OnceLock<TestDir> = OnceLock::new();
    PLACE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        shape::write(&folder.path().join("data"), 4, 16, 64);
        let place = TestDir(folder);
        succeeded(&place.train(&["pretrain", "--out", "tap"], &[]));
        succeeded(&place.train(&["finetune", "--init", "tap", "--out", "tuned"], &[]));
        place
    })
}

#[track_caller]
fn refused(output: &Output, exit_code: i32, words: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(exit_code), "{text}");
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
}

fn checkpoint(run: &str, step: u64) -> String {
    format!("{run}/checkpoints/step-{step:010}")
}

#[test]
fn an_encoder_is_that_of_the_checkpoint_that_is_chosen() {
    let place = place();
    let state = place.json(&format!("{}/state.json", checkpoint("tap", 6)));
    let best = state["best_checkpoint"]["step"].as_u64().unwrap();
    let folder = checkpoint("tap", 2);
    for (choice, step) in [("best", best), ("latest", 6), ("4", 4), (&folder, 2)] {
        let embed = ["embed", "--data", "data", "--init", "tap", "--checkpoint", choice];
        succeeded(&place.run(&[&embed[..], &["--out", "embedded", "--force"]].concat()));
        let expected = place.sha256(&format!("{}/model.safetensors", checkpoint("tap", step)));
        assert_eq!(
            place.json("embedded/embed.json")["init_sha256"],
            *expected,
            "{choice}"
        );
    }
    // Of a run, and of its checkpoint, the settings are those of the run.
    let probe = [
        "probe",
        "--data",
        "data",
        "--random-inits",
        "0",
        "--labels-per-class",
        "2",
    ];
    succeeded(&place.run(&[&probe[..], &["--init", "tap", "--checkpoint", "2", "--out", "p1"]].concat()));
    succeeded(&place.run(&[&probe[..], &["--init", &folder, "--out", "p2"]].concat()));
    assert_eq!(
        place.json("p1/probe.json")["arms"],
        place.json("p2/probe.json")["arms"]
    );
    let retrieve = [
        "retrieve",
        "--data",
        "data",
        "--init",
        "tap",
        "--checkpoint",
        "best",
    ];
    succeeded(&place.run(&[&retrieve[..], &["--out", "lists"]].concat()));
    succeeded(&place.run(&["export", "tap", "--checkpoint", "4", "--out", "four.safetensors"]));

    succeeded(&place.train(
        &[
            "finetune",
            "--init",
            "tap",
            "--checkpoint",
            "4",
            "--out",
            "from-4",
        ],
        &[],
    ));
    let plan = std::fs::read_to_string(place.path("from-4/config.toml")).unwrap();
    let expected = place.sha256(&format!("{}/model.safetensors", checkpoint("tap", 4)));
    assert!(plan.contains(&expected), "{plan}");
    let missing = [
        "embed",
        "--data",
        "data",
        "--init",
        "tap",
        "--out",
        "no",
        "--checkpoint",
    ];
    refused(
        &place.run(&[&missing[..], &["5"]].concat()),
        1,
        &["no checkpoint of step 5", "it has checkpoints of steps 2, 4, 6"],
    );
    refused(
        &place.run(&[&missing[..], &["newest"]].concat()),
        2,
        &["'newest' is none of best, latest, a step and a file"],
    );
    let of_file = [
        "embed",
        "--data",
        "data",
        "--init",
        "four.safetensors",
        "--out",
        "no",
    ];
    refused(
        &place.run(&[&of_file[..], &["--checkpoint", "4"]].concat()),
        1,
        &["--checkpoint chooses among the weights of a run"],
    );
    assert!(!place.path("no").exists(), "nothing is written");
}

#[test]
fn a_score_names_the_checkpoint_that_it_is_of() {
    let place = place();
    let evaluate = |choice: &str| {
        let evaluate = [
            "evaluate",
            "--run",
            "tuned",
            "--data",
            "data",
            "--json",
            "--checkpoint",
            choice,
        ];
        serde_json::from_str::<Value>(&succeeded(&place.run(&evaluate))).unwrap()
    };
    let selected = &place.json("tuned/result.json")["selected"];
    assert!(selected["step"].is_u64(), "the fine-tuning selects: {selected}");
    assert_eq!(
        evaluate("best")["accuracy"],
        selected["score"],
        "the best are kept"
    );
    assert_eq!(evaluate("4")["selection"], "checkpoint of step 4 of 6");
    let file = format!("{}/model.safetensors", checkpoint("tuned", 2));
    let of_file = evaluate(&file);
    assert_eq!(of_file["num_steps"], 2, "{of_file}");
    assert_eq!(of_file["accuracy"], evaluate("2")["accuracy"]);
    for (number, command) in ["robustness", "predict"].into_iter().enumerate() {
        let arguments: &[&str] = if number == 0 {
            &[
                "robustness",
                "--data",
                "data",
                "--corruptions",
                "jitter",
                "--json",
            ]
        } else {
            &[
                "predict",
                "data",
                "--split",
                "test",
                "--out",
                "predicted",
                "--json",
            ]
        };
        let of_run = ["--run", "tuned", "--checkpoint", "4"];
        let result = succeeded(&place.run(&[arguments, &of_run].concat()));
        assert!(
            result.contains("checkpoint of step 4 of 6"),
            "{command}: {result}"
        );
    }
    // The weights of another run do not belong to this one.
    let other = format!("{}/model.safetensors", checkpoint("tap", 2));
    refused(
        &place.run(&[
            "evaluate",
            "--run",
            "tuned",
            "--data",
            "data",
            "--checkpoint",
            &other,
        ]),
        1,
        &["of another configuration"],
    );
    // While a fine-tuning that selects is under way, the best are in a file of their own.
    succeeded(&place.train(
        &["finetune", "--init", "tap", "--out", "plain"],
        &["finetune.select=last"],
    ));
    refused(
        &place.run(&[
            "evaluate",
            "--run",
            "plain",
            "--data",
            "data",
            "--checkpoint",
            "best",
        ]),
        1,
        &[
            "finetune.select=validation",
            "checkpoints of steps 2, 4, 6 and the weights that it finished with",
        ],
    );
}
