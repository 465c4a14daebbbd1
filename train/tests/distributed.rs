//! Training in several processes, through the program: two ranks on this machine, which see neither each other's folders nor
//! those of their starters, compute what one process does, stop together, fail together and go on.

#![cfg(feature = "distributed")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod program;
mod shape;
mod small;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use program::{last_error, stderr, succeeded};
use serde_json::Value;
use small::{BACKBONES, Backbone};
use tap_train::weights::safetensors::read_tensors;
use tch::Tensor;

const NUM_RANKS: usize = 2;
/// Batches of four of 15 objects, so that the last of an epoch is a smaller one.
const SETTINGS: [&str; 4] = [
    "pretrain={steps=9,accumulation_steps=2,last_batch='keep',ema_decay=0.9}",
    "finetune={steps=6,batch_size=8,accumulation_steps=2,last_batch='keep',select='best-on-test'}",
    "segment={steps=4,batch_size=8,accumulation_steps=2,last_batch='keep'}",
    "log={checkpoint_every=2,validate_every=4,num_images=2,images_every=4,keep_checkpoints=99}",
];
/// A tiny Transformer with dropped branches, for Point-MAE.
const TRANSFORMER: [&str; 3] = [
    "data.num_points=64",
    "pretrain.batch_size=4",
    "encoder={kind='point_mae',num_groups=10,num_neighbors=12,group_widths=[16,32],channels=32,num_blocks=3,num_heads=2,drop_path=0.2}",
];

/// The settings of a small network, those of these tests and further ones, as arguments.
fn set(network: &[&str], settings: &[&str]) -> Vec<String> {
    let all = network.iter().chain(&SETTINGS).chain(settings);
    all.flat_map(|setting| [String::from("--set"), (*setting).to_owned()])
        .collect()
}

/// `tap-train` with the small network and settings.
fn small_run(arguments: &[&str], settings: &[&str]) -> Vec<String> {
    let arguments = arguments.iter().map(|argument| (*argument).to_owned());
    arguments.chain(set(&small::NETWORK, settings)).collect()
}

/// A folder with a data set in `data`, and one for each rank and for processes alone.
struct TestDir(tempfile::TempDir);

impl TestDir {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        shape::write_parts(&folder.path().join("data"), 5, 16, 64, &shape::CLASSES);
        let place = Self(folder);
        for rank in 0..NUM_RANKS {
            fs::create_dir(place.of_rank(rank)).unwrap();
        }
        fs::create_dir(place.path("alone")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn of_rank(&self, rank: usize) -> PathBuf {
        self.path(&format!("rank{rank}"))
    }

    /// Rank 1, where the others should be at this port.
    fn last_rank(&self, arguments: &[String], port: u16) -> Ranks {
        let mut command = command(&self.of_rank(1), arguments);
        command
            .env("RANK", "1")
            .env("WORLD_SIZE", NUM_RANKS.to_string())
            .env("MASTER_ADDR", "127.0.0.1")
            .env("MASTER_PORT", port.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ranks(vec![command.spawn().unwrap()])
    }

    /// What it does in the folder of a process alone.
    fn alone(&self, arguments: &[String]) -> Output {
        command(&self.path("alone"), arguments).output().unwrap()
    }

    /// Two ranks.
    fn start(&self, arguments: &[String]) -> Ranks {
        self.start_each([arguments; NUM_RANKS])
    }

    /// Two ranks, each with its own arguments.
    fn start_each(&self, arguments: [&[String]; NUM_RANKS]) -> Ranks {
        self.start_all(&arguments)
    }

    /// A rank for each list of arguments.
    fn start_all(&self, arguments: &[&[String]]) -> Ranks {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        drop(listener);
        let world_size = arguments.len().to_string();
        let start = |(rank, arguments): (usize, &&[String])| {
            fs::create_dir_all(self.of_rank(rank)).unwrap();
            let mut command = command(&self.of_rank(rank), arguments);
            command
                .env("RANK", rank.to_string())
                .env("WORLD_SIZE", &world_size)
                .env("MASTER_ADDR", "127.0.0.1")
                .env("MASTER_PORT", &port)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            command.spawn().unwrap()
        };
        Ranks(arguments.iter().enumerate().map(start).collect())
    }

    /// Two ranks that come to the end.
    #[track_caller]
    fn together(&self, arguments: &[String]) {
        let [first, second] = self.start(arguments).outputs();
        let said = succeeded(&first);
        assert!(said.contains("run"), "rank 0 says what came of it: {said}");
        assert_eq!(succeeded(&second), "", "the other says nothing");
        assert_eq!(stderr(&second), "", "the other says nothing");
        assert!(!self.of_rank(1).join("run").exists(), "and writes nothing");
    }

    /// Removes the runs of rank 0 and of the process alone.
    fn put_away(&self) {
        for run in [self.of_rank(0).join("run"), self.path("alone/run")] {
            if run.exists() {
                fs::remove_dir_all(run).unwrap();
            }
        }
    }

    /// Waits for a file or folder in the folder of rank 0.
    fn wait_for(&self, name: &str) {
        let begin = Instant::now();
        while !self.of_rank(0).join(name).exists() {
            assert!(begin.elapsed() < Duration::from_mins(1), "no {name}");
            sleep(Duration::from_millis(5));
        }
    }

    /// Asserts that a run has the numbers of one of a process alone, to the bit, and its weights, moments and averages.
    #[track_caller]
    fn assert_same(&self, files: &[&str]) {
        let (together, alone) = (self.of_rank(0).join("run"), self.path("alone/run"));
        assert_eq!(numbers(&together), numbers(&alone), "records");
        for file in files {
            let (a, b) = (tensors(&together.join(file)), tensors(&alone.join(file)));
            assert_eq!(a.len(), b.len(), "{file}");
            for ((name, a), (_, b)) in a.iter().zip(&b) {
                assert!(a.equal(b), "{file}: {name}");
            }
        }
    }

    /// Asserts that a run has so many records, and the losses of one of a process alone but for rounding.
    #[track_caller]
    fn assert_near(&self, num_records: usize) {
        let [together, alone] = [self.of_rank(0).join("run"), self.path("alone/run")].map(|run| losses(&run));
        assert_eq!(together.len(), num_records, "one record a step");
        for (step, (a, b)) in together.iter().zip(&alone).enumerate() {
            let is_near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-6 * b.abs().max(1.0);
            assert!(a.iter().zip(b).all(is_near), "step {step}: {a:?} and {b:?}");
        }
    }
}

/// The program on the data of a test, on one thread.
fn command(folder: &Path, arguments: &[String]) -> Command {
    let mut command = program::command(folder, &[]);
    command.args(arguments);
    command.args(["--data", "../data", "--device", "cpu", "--threads", "1"]);
    command
}

/// Processes that train together; they are killed when a test fails.
struct Ranks(Vec<Child>);

impl Ranks {
    /// What the only one does, which has to end by itself within this time.
    fn output_within(mut self, limit: Duration) -> Output {
        let begin = Instant::now();
        while self.0[0].try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < limit, "it waits on");
            sleep(Duration::from_millis(20));
        }
        self.0.remove(0).wait_with_output().unwrap()
    }

    fn outputs(self) -> [Output; NUM_RANKS] {
        self.all_outputs().try_into().unwrap()
    }

    fn all_outputs(mut self) -> Vec<Output> {
        let children = std::mem::take(&mut self.0).into_iter();
        children.map(|child| child.wait_with_output().unwrap()).collect()
    }

    fn signal(&self, rank: usize, signal: &str) {
        let id = self.0[rank].id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success(), "{signal} to rank {rank}");
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The records of a run without its times, as text that tells every bit.
fn numbers(run: &Path) -> Vec<String> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let without_times = |line: &str| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        for name in ["elapsed_s", "samples_per_s", "views_per_s", "data_wait"] {
            record.as_object_mut().unwrap().remove(name);
        }
        record.to_string()
    };
    text.lines().map(without_times).collect()
}

/// Losses and norms of gradients of the steps of a run.
fn losses(run: &Path) -> Vec<[f64; 2]> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let records = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    records
        .filter(|record| record["kind"] == "step")
        .map(|record| ["loss", "gradient_norm"].map(|name| record[name].as_f64().unwrap()))
        .collect()
}

/// The tensors of a file, by name.
fn tensors(file: &Path) -> Vec<(String, Tensor)> {
    let mut tensors: Vec<(String, Tensor)> = read_tensors(file).unwrap().into_iter().collect();
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
    tensors
}

const LAST_CHECKPOINT: [&str; 3] = [
    "checkpoints/step-0000000009/model.safetensors",
    "checkpoints/step-0000000009/optimizer.safetensors",
    "checkpoints/step-0000000009/ema.safetensors",
];

#[test]
fn two_ranks_pretrain_as_one_process_does() {
    let place = TestDir::new();
    let dropped = ["photograph.dropout=0.2", "photograph.drop_path=0.2"];
    let arguments = small_run(&["pretrain", "--out", "run"], &dropped);
    place.together(&arguments);
    succeeded(&place.alone(&arguments));
    place.assert_same(&LAST_CHECKPOINT);
    place.assert_same(&["encoder.safetensors"]);
    let image = |run: PathBuf| fs::read(run.join("samples/final.png")).unwrap();
    assert!(
        image(place.of_rank(0).join("run")) == image(place.path("alone/run")),
        "images"
    );
}

#[test]
fn two_ranks_pretrain_and_fine_tune_a_transformer_as_one_process_does() {
    let place = TestDir::new();
    let pretrain = ["pretrain", "--config", "mini-point-mae", "--out", "run"].map(String::from);
    let pretrain = [
        &pretrain[..],
        &set(&TRANSFORMER, &["pretrain.last_batch='carry'"]),
    ]
    .concat();
    place.together(&pretrain);
    succeeded(&place.alone(&pretrain));
    place.assert_same(&LAST_CHECKPOINT);
    // The encoder, and what its run says of it, are known to rank 0 alone.
    for task in ["classify", "segment"] {
        for folder in [place.of_rank(0), place.path("alone")] {
            fs::rename(folder.join("run"), folder.join(format!("before-{task}"))).unwrap();
        }
        let init = format!("before-{task}");
        let init = if task == "classify" {
            init
        } else {
            String::from("before-classify")
        };
        let arguments = ["finetune", "--task", task, "--init", &init, "--out", "run"].map(String::from);
        let arguments = [&arguments[..], &set(&TRANSFORMER[..1], &[])].concat();
        place.together(&arguments);
        succeeded(&place.alone(&arguments));
        place.assert_same(&["model.safetensors"]);
    }
}

/// Three steps and nothing beside them, to compare one network after the other.
const FEW_STEPS: [&str; 2] = ["pretrain.steps=3", "log={images_every=0,validate_every=0}"];
const LAST_OF_FEW: [&str; 3] = [
    "checkpoints/step-0000000003/model.safetensors",
    "checkpoints/step-0000000003/optimizer.safetensors",
    "encoder.safetensors",
];

/// A few steps of a backbone, in the folder `run`.
fn few_steps(backbone: &Backbone, settings: &[&str]) -> Vec<String> {
    let arguments = ["pretrain", "--config", backbone.preset, "--out", "run"].map(String::from);
    let of_run = [&SETTINGS[..], &FEW_STEPS].concat();
    let all = backbone.settings(&of_run).into_iter();
    let all = all.chain(settings.iter().copied());
    let all = all.flat_map(|setting| [String::from("--set"), setting.to_owned()]);
    arguments.into_iter().chain(all).collect()
}

#[test]
fn every_backbone_gives_the_same_bits_on_two_ranks() {
    let place = TestDir::new();
    for backbone in &BACKBONES {
        let arguments = few_steps(backbone, &[]);
        place.together(&arguments);
        succeeded(&place.alone(&arguments));
        place.assert_same(&LAST_OF_FEW);
        place.put_away();
    }
}

#[test]
fn i2p_mae_gives_the_same_bits_on_two_ranks_but_for_a_contrast_among_a_batch_which_is_refused() {
    let place = TestDir::new();
    let hierarchy = BACKBONES.iter().find(|backbone| backbone.name == "point_m2ae");
    let guided = Backbone {
        preset: "mini-i2p-mae",
        ..*hierarchy.unwrap()
    };
    small::write_teacher(place.0.path(), 0.0);
    let teacher = "method.teacher=../teacher.safetensors";
    let half = [teacher, "method.mask_ratio=0.5"];
    let arguments = few_steps(&guided, &half);
    place.together(&arguments);
    succeeded(&place.alone(&arguments));
    place.assert_same(&LAST_OF_FEW);
    place.put_away();
    let contrast = [&half[..], &["method.contrast_weight=0.1"]].concat();
    for output in place.start(&few_steps(&guided, &contrast)).outputs() {
        let error = last_error(&output);
        assert!(
            error.contains("contrast_among = \"batch\"") && error.contains("accumulation_steps = 1"),
            "{error}"
        );
    }
    let among = [&contrast[..], &["method.contrast_among='micro-batch'"]].concat();
    let arguments = few_steps(&guided, &among);
    place.together(&arguments);
    succeeded(&place.alone(&arguments));
    place.assert_same(&LAST_OF_FEW);
    let text = fs::read_to_string(place.path("alone/run/metrics.jsonl")).unwrap();
    assert!(text.contains("\"loss_contrast\""), "it is there: {text}");
    place.put_away();
    let singles = [&among[..], &["pretrain.batch_size=2"]].concat();
    let error = last_error(&place.alone(&few_steps(&guided, &singles)));
    assert!(error.contains("has nothing to tell apart"), "{error}");
}

#[test]
fn synchronized_batch_norms_on_two_ranks_are_those_of_the_whole_batch() {
    const SYNCHRONIZED: &str = "pretrain.batch_norm='synchronized'";
    // In one network the layers normalize rows, in the other edges that are never formed too.
    let place = TestDir::new();
    for name in ["point_net2", "dgcnn"] {
        let backbone = BACKBONES.iter().find(|backbone| backbone.name == name).unwrap();
        // 15 objects: a last batch of three, on one rank two and on the other one.
        let settings = ["pretrain.steps=8", "pretrain.learning_rate=1e-3"];
        let synchronized = few_steps(backbone, &[&settings[..], &[SYNCHRONIZED]].concat());
        place.together(&synchronized);
        let whole = few_steps(
            backbone,
            &[&settings[..], &["pretrain.accumulation_steps=1"]].concat(),
        );
        succeeded(&place.alone(&whole));
        let together = losses(&place.of_rank(0).join("run"));
        let alone = losses(&place.path("alone/run"));
        place.put_away();
        place.together(&few_steps(backbone, &settings));
        let separate = losses(&place.of_rank(0).join("run"));
        place.put_away();
        assert_eq!(together.len(), 8, "one record a step");
        let distance = |other: &[[f64; 2]]| {
            let pairs = other.iter().flatten().zip(alone.iter().flatten());
            pairs.map(|(a, b)| (a / b - 1.0).abs()).fold(0.0, f64::max)
        };
        assert!(distance(&together) < 1e-5, "{name}: {together:?} and {alone:?}");
        assert!(distance(&separate) > 1e-4, "{name}: {separate:?} and {alone:?}");
    }
    // One process, or four micro-batches, cannot do it.
    let refused = small_run(&["pretrain", "--out", "run"], &[SYNCHRONIZED]);
    let named = "pretrain.batch_norm = \"synchronized\" needs the 2 micro-batches";
    assert!(last_error(&place.alone(&refused)).contains(named), "one process");
    let four = small_run(
        &["pretrain", "--out", "run"],
        &[
            SYNCHRONIZED,
            "pretrain.accumulation_steps=4",
            "pretrain.last_batch='carry'",
        ],
    );
    for output in place.start(&four).outputs() {
        assert!(
            last_error(&output).contains("needs the 4 micro-batches"),
            "{output:?}"
        );
    }
    let uneven = small_run(
        &["pretrain", "--out", "run"],
        &[SYNCHRONIZED, "pretrain.batch_size=7"],
    );
    for output in place.start(&uneven).outputs() {
        assert!(
            last_error(&output).contains("a batch of 1 objects makes 1"),
            "{output:?}"
        );
    }
}

#[test]
fn four_micro_batches_on_two_ranks_are_those_of_one_process_but_for_rounding() {
    let place = TestDir::new();
    let arguments = small_run(
        &["pretrain", "--out", "run"],
        &["pretrain.accumulation_steps=4", "pretrain.steps=6"],
    );
    place.together(&arguments);
    succeeded(&place.alone(&arguments));
    place.assert_near(6);
}

/// With sums of gradients during the backward pass.
fn overlapping(arguments: &[String]) -> Vec<String> {
    [arguments, &[String::from("--overlap")]].concat()
}

#[test]
fn overlapping_ranks_pretrain_as_one_process_does() {
    let place = TestDir::new();
    let arguments = small_run(&["pretrain", "--out", "run"], &["photograph.dropout=0.2"]);
    place.together(&overlapping(&arguments));
    succeeded(&place.alone(&arguments));
    place.assert_same(&LAST_CHECKPOINT);
    // Stopped, and gone on with by one rank, which has nothing to overlap.
    fs::remove_dir_all(place.of_rank(0).join("run")).unwrap();
    let ranks = place.start(&overlapping(&arguments));
    place.wait_for("run/checkpoints/step-0000000004");
    ranks.signal(0, "-TERM");
    let _ = ranks.outputs();
    let resume = ["pretrain", "--resume", "--overlap", "--out", "run"].map(String::from);
    succeeded(&command(&place.of_rank(0), &resume).output().unwrap());
    place.assert_same(&LAST_CHECKPOINT);
}

#[test]
fn overlapping_ranks_accumulate_and_thaw_an_encoder_as_others_do() {
    let place = TestDir::new();
    // Batches of 7 of 15 objects: the last has one, so that one rank takes nothing.
    let accumulated = ["pretrain.accumulation_steps=4", "pretrain.batch_size=7"];
    let pretrain = ["pretrain", "--config", "mini-point-mae", "--out", "run"].map(String::from);
    let pretrain = [&pretrain[..], &set(&TRANSFORMER, &accumulated)].concat();
    let as_others = |files: &[&str], arguments: &[String]| {
        place.together(arguments);
        fs::rename(place.of_rank(0).join("run"), place.path("alone/run")).unwrap();
        place.together(&overlapping(arguments));
        place.assert_same(files);
    };
    as_others(&LAST_CHECKPOINT, &pretrain);
    for folder in [place.of_rank(0), place.path("alone")] {
        fs::rename(folder.join("run"), folder.join("before")).unwrap();
    }
    let finetune = [
        "finetune", "--task", "classify", "--init", "before", "--out", "run",
    ]
    .map(String::from);
    let frozen = [
        "finetune.freeze_encoder_steps=3",
        "finetune.accumulation_steps=4",
        "finetune.last_batch='carry'",
    ];
    let finetune = [&finetune[..], &set(&TRANSFORMER[..1], &frozen)].concat();
    as_others(&["model.safetensors"], &finetune);
}

#[test]
fn overlapping_ranks_synchronize_batch_norms_as_others_do() {
    let place = TestDir::new();
    let backbone = BACKBONES
        .iter()
        .find(|backbone| backbone.name == "dgcnn")
        .unwrap();
    let arguments = few_steps(
        backbone,
        &["pretrain.steps=4", "pretrain.batch_norm='synchronized'"],
    );
    place.together(&arguments);
    fs::rename(place.of_rank(0).join("run"), place.path("alone/run")).unwrap();
    place.together(&overlapping(&arguments));
    place.assert_same(&["encoder.safetensors"]);
}

#[test]
fn four_overlapping_ranks_are_one_process_but_for_rounding() {
    let place = TestDir::new();
    let arguments = small_run(
        &["pretrain", "--out", "run"],
        &["pretrain.accumulation_steps=4", "pretrain.steps=6"],
    );
    let overlapping = overlapping(&arguments);
    for output in place.start_all(&[overlapping.as_slice(); 4]).all_outputs() {
        succeeded(&output);
    }
    succeeded(&place.alone(&arguments));
    place.assert_near(6);
}

#[test]
fn after_a_kill_both_ranks_go_on_to_the_numbers_of_an_unbroken_run() {
    go_on_after_a_kill(&[]);
}

#[test]
fn after_a_kill_overlapping_ranks_go_on_to_the_numbers_of_an_unbroken_run() {
    go_on_after_a_kill(&["--overlap"]);
}

fn go_on_after_a_kill(flags: &[&str]) {
    let place = TestDir::new();
    let long = ["pretrain.steps=60", "log.validate_every=0", "log.images_every=0"];
    let arguments = small_run(&[&["pretrain", "--out", "run"], flags].concat(), &long);
    let ranks = place.start(&arguments);
    place.wait_for("run/checkpoints/step-0000000004");
    ranks.signal(1, "-KILL");
    let begin = Instant::now();
    let [first, _] = ranks.outputs();
    assert!(
        begin.elapsed() < Duration::from_secs(20),
        "at once: {:?}",
        begin.elapsed()
    );
    let error = last_error(&first);
    assert!(error.contains("lost the other ranks while"), "{error}");
    let of_error = stderr(&first);
    let of_error = of_error.split_once("error: ").unwrap().1;
    assert_eq!(of_error.lines().count(), 1, "one line: {of_error}");
    let resume = [&["pretrain", "--resume", "--out", "run"], flags].concat();
    place.together(&resume.into_iter().map(String::from).collect::<Vec<_>>());
    succeeded(&place.alone(&arguments));
    place.assert_same(&["encoder.safetensors"]);
    // A finished run is finished for all.
    let [first, second] = place
        .start(&["pretrain", "--resume", "--out", "run"].map(String::from))
        .outputs();
    assert!(succeeded(&first).contains("finished already"), "{first:?}");
    assert_eq!(succeeded(&second), "", "nothing to say");
}

/// torchrun on this machine with two ranks; it ends with this. The ranks are its children.
#[cfg(target_os = "linux")]
struct Torchrun(Child);

#[cfg(target_os = "linux")]
impl Torchrun {
    fn start(python: &std::ffi::OsStr, place: &TestDir, arguments: &[String]) -> Self {
        use std::os::unix::process::CommandExt as _;
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let of_ranks = command(&place.of_rank(0), arguments);
        let mut torchrun = Command::new(python);
        torchrun
            .args(["-m", "torch.distributed.run", "--no_python", "--nnodes=1"])
            .args(["--nproc_per_node=2", "--max_restarts=3", "--monitor_interval=0.2"])
            .args([
                "--rdzv_backend=c10d",
                &format!("--rdzv_endpoint=127.0.0.1:{port}"),
            ])
            // Beside Python 3.11 PyTorch 1.13 takes no other values of these.
            .args(["--redirects=1", "--tee=1", "--log_dir=log"])
            .arg(of_ranks.get_program())
            .args(of_ranks.get_args())
            .current_dir(place.of_rank(0))
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self(torchrun.spawn().unwrap())
    }

    /// The process that is this rank now, if it is there.
    fn rank(&self, rank: usize) -> Option<String> {
        let id = self.0.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        let is_rank = |child: &&str| {
            let variables = fs::read(format!("/proc/{child}/environ")).unwrap_or_default();
            let named = format!("RANK={rank}");
            variables
                .split(|byte| *byte == 0)
                .any(|of| of == named.as_bytes())
        };
        children.split_whitespace().find(is_rank).map(str::to_owned)
    }

    fn output(mut self) -> Output {
        let (mut stdout, mut stderr) = (self.0.stdout.take().unwrap(), self.0.stderr.take().unwrap());
        let reader = thread::spawn(move || {
            let mut text = Vec::new();
            stdout.read_to_end(&mut text).unwrap();
            text
        });
        let mut error = Vec::new();
        stderr.read_to_end(&mut error).unwrap();
        Output {
            status: self.0.wait().unwrap(),
            stdout: reader.join().unwrap(),
            stderr: error,
        }
    }
}

#[cfg(target_os = "linux")]
impl Drop for Torchrun {
    fn drop(&mut self) {
        // Its ranks with it.
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.0.wait();
    }
}

/// The steps of the newest checkpoint of rank 0.
fn newest_step(place: &TestDir) -> u64 {
    let folder = fs::read_dir(place.of_rank(0).join("run/checkpoints"));
    let names = folder.into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let steps = names.filter_map(|name| name.strip_prefix("step-")?.parse().ok());
    steps.max().unwrap_or(0)
}

#[cfg(target_os = "linux")]
#[test]
fn torchrun_starts_killed_ranks_again_to_the_numbers_of_an_unbroken_run() {
    let Some(python) = std::env::var_os("TAP_TORCH") else {
        let is_required = std::env::var_os("TAP_REQUIRE_TORCH").is_some();
        assert!(!is_required, "TAP_TORCH names no Python with torch");
        let _ = writeln!(std::io::stderr(), "skipped: TAP_TORCH names no Python with torch");
        return;
    };
    let place = TestDir::new();
    let long = [
        "pretrain.steps=240",
        "log={validate_every=0,images_every=0,keep_checkpoints=3}",
    ];
    // Each start opens groups of its own, that of the sums during backward passes too.
    let begun = small_run(&["pretrain", "--out", "run", "--resume"], &long);
    let torchrun = Torchrun::start(&python, &place, &overlapping(&begun));
    for rank in [1, 0] {
        let (begin, at) = (Instant::now(), newest_step(&place));
        let process = loop {
            if newest_step(&place) > at + 4
                && let Some(process) = torchrun.rank(rank)
            {
                break process;
            }
            assert!(begin.elapsed() < Duration::from_mins(2), "stuck at step {at}");
            sleep(Duration::from_millis(5));
        };
        let killed = Command::new("kill").args(["-KILL", &process]).status().unwrap();
        assert!(killed.success(), "rank {rank}");
    }
    let output = torchrun.output();
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.matches("resumed at step").count() == 2 && said.contains("on 2 ranks"),
        "it was started again twice: {said}"
    );
    succeeded(&place.alone(&small_run(&["pretrain", "--out", "run"], &long)));
    place.assert_same(&["encoder.safetensors"]);
}

#[test]
fn a_rank_that_hangs_is_an_error_within_the_time_limit() {
    for flags in [&[][..], &["--overlap"]] {
        end_within_the_time_limit(flags);
    }
}

fn end_within_the_time_limit(flags: &[&str]) {
    let place = TestDir::new();
    let arguments = small_run(
        &[&["pretrain", "--out", "run", "--timeout", "2"], flags].concat(),
        &["pretrain.steps=100000"],
    );
    let mut ranks = place.start(&arguments);
    place.wait_for("run/checkpoints/step-0000000002");
    ranks.signal(1, "-STOP");
    let begin = Instant::now();
    while ranks.0[0].try_wait().unwrap().is_none() {
        assert!(begin.elapsed() < Duration::from_secs(30), "it waits on");
        sleep(Duration::from_millis(20));
    }
    ranks.signal(1, "-KILL");
    let [first, _] = ranks.outputs();
    let error = last_error(&first);
    assert!(error.contains("lost the other ranks while"), "{error}");
}

#[test]
fn a_rank_that_meets_another_service_ends_within_the_time_limit() {
    let place = TestDir::new();
    let arguments = small_run(&["pretrain", "--out", "run", "--timeout", "2"], &[]);
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let meets = || {
        place
            .last_rank(&arguments, port)
            .output_within(Duration::from_secs(30))
    };
    // It accepts, and is silent.
    let silent = meets();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    for output in [silent, meets()] {
        let error = last_error(&output);
        let place = format!("could not meet the other ranks at 127.0.0.1:{port}");
        assert!(error.contains(&place), "{error}");
        assert_eq!(stderr(&output).lines().count(), 1, "{output:?}");
    }
}

#[test]
fn both_ranks_stop_at_the_step_at_which_one_is_asked_to() {
    const INTERRUPTED: i32 = 130;
    let place = TestDir::new();
    let long = [
        "pretrain.steps=400",
        "log.checkpoint_every=300",
        "log.validate_every=0",
    ];
    let arguments = small_run(&["pretrain", "--out", "run"], &long);
    let ranks = place.start(&arguments);
    place.wait_for("run/metrics.jsonl");
    sleep(Duration::from_millis(300));
    ranks.signal(1, "-TERM");
    let [first, second] = ranks.outputs();
    assert_eq!(first.status.code(), Some(INTERRUPTED), "{first:?}");
    assert_eq!(second.status.code(), Some(INTERRUPTED), "{second:?}");
    let checkpoints = fs::read_dir(place.of_rank(0).join("run/checkpoints")).unwrap();
    let names: Vec<_> = checkpoints.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    let said = stderr(&first);
    let step = losses(&place.of_rank(0).join("run")).len();
    assert!(
        said.contains(&format!("interrupted after step {step};")),
        "{said}"
    );
    assert!(!place.of_rank(1).join("run").exists(), "rank 1 writes nothing");
}

#[test]
fn what_cannot_be_trained_together_is_refused_by_name() {
    let place = TestDir::new();
    let arguments = small_run(&["pretrain", "--out", "run"], &[]);
    let other = small_run(&["pretrain", "--out", "run"], &["pretrain.learning_rate=0.25"]);
    let [first, second] = place.start_each([&arguments, &other]).outputs();
    let named = "rank 1 has another configuration: phase.schedule";
    assert!(last_error(&first).contains(named), "{}", stderr(&first));
    let error = last_error(&second);
    assert!(error.contains(&format!("rank 1: {named}")), "{error}");
    assert!(
        !place.of_rank(0).join("run/config.toml").exists(),
        "nothing is begun"
    );

    for output in place.start_each([&arguments, &overlapping(&arguments)]).outputs() {
        let error = last_error(&output);
        let named = "rank 1 was started with --overlap and rank 0 without it";
        assert!(error.contains(named), "{error}");
    }

    let odd = small_run(&["pretrain", "--out", "run"], &["pretrain.accumulation_steps=3"]);
    for output in place.start(&odd).outputs() {
        let error = last_error(&output);
        assert!(error.contains("pretrain.accumulation_steps = 3"), "{error}");
    }

    let mut evaluate = program::command(
        &place.path("alone"),
        &["evaluate", "--run", "run", "--data", "../data"],
    );
    evaluate
        .env("RANK", "0")
        .env("WORLD_SIZE", "2")
        .env("MASTER_ADDR", "127.0.0.1");
    let error = last_error(&evaluate.output().unwrap());
    assert!(error.contains("start this command once"), "{error}");
}

#[test]
fn a_step_that_is_not_finite_is_one_on_both_ranks_and_is_taken_again_by_one() {
    for flags in [&[][..], &["--overlap"]] {
        fail_together(flags);
    }
}

fn fail_together(flags: &[&str]) {
    let place = TestDir::new();
    // A rate that no weight survives.
    let arguments = small_run(
        &[&["pretrain", "--out", "run"], flags].concat(),
        &[
            "pretrain.learning_rate=1e30",
            "pretrain.warmup=0",
            "log.validate_every=0",
        ],
    );
    let [first, second] = place.start(&arguments).outputs();
    let error = last_error(&first);
    assert!(error.contains("is not finite at step"), "{error}");
    assert_eq!(
        last_error(&second).replace("rank 1: ", ""),
        error,
        "the same on both"
    );
    let folders = fs::read_dir(place.of_rank(0).join("run")).unwrap();
    let names = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let fault = names
        .filter(|name| name.starts_with("non-finite-"))
        .collect::<Vec<_>>();
    assert_eq!(fault.len(), 1, "{fault:?}");
    let folder = format!("run/{}", fault[0]);
    let replay = program::run(
        &place.of_rank(0),
        &["replay", &folder, "--device", "cpu", "--threads", "1"],
    );
    assert!(succeeded(&replay).contains("reproduced"), "{replay:?}");
}
