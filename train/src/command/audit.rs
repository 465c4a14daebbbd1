//! `tap-train audit`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use tap_cli::ui;
use tap_dataset::{Split, sha256};
use tap_train::config::{Config, PRESETS, Selection};
use tap_train::run::Existing;
use tap_train::task::audit::{AuditReport, Audited, ClassOrder, Subject, audit};
use tap_train::task::classify::Classify;
use tap_train::task::finetune::{Scored, Task as FinetuneTask};
use tap_train::task::provenance::Provenance;
use tap_train::task::segment::Segment;

use super::finetune::{TaskName, votes_clause};
use super::result_folder::ResultFolderArgs;
use super::vote_args::VoteArgs;
use super::{DeviceArgs, load_config, parse_name, require_inputs};

/// How the weights were selected.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum SelectionName {
    /// Those of the last step.
    Last,
    /// The best on a split that is not scored.
    Validation,
    /// The best on the split that is scored.
    BestOnTest,
}

impl From<SelectionName> for Selection {
    fn from(name: SelectionName) -> Self {
        match name {
            SelectionName::Last => Self::Last,
            SelectionName::Validation => Self::Validation,
            SelectionName::BestOnTest => Self::BestOnTest,
        }
    }
}

/// Arguments of `audit`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tap-train audit pointmlp_scanobjectnn.pth --task classify --data sets/scanobjectnn-pb-t50-rs --claim 88.5
  tap-train audit ckpt.pth --task classify --data sets/modelnet40 --config paper-point-mae --votes 10 --vote-average logits
  tap-train audit parts.pth --task segment --data sets/shapenetpart --set data.num_points=2048 --refine --votes 10 --vote-rule published
  tap-train audit ckpt.pth --task classify --data sets/modelnet40 --out out/audit && tap-train table out/audit out/tuned

The file is read without running any of the code that a .pth file can hold. It has to hold a whole fine-tuned network, encoder and
head, under the names of the released code; --config and --set say which, unless a preset fits. The protocol is one and the same for
all weights: the farthest points, no votes, no clean-up. What --votes and --refine ask for is a second line.")]
pub(crate) struct Audit {
    /// A checkpoint of PyTorch (1.6 or newer) or a safetensors file with a fine-tuned network.
    #[arg(value_name = "CHECKPOINT")]
    file: PathBuf,
    /// What the weights are for.
    #[arg(long, value_enum)]
    task: TaskName,
    /// A data set of shards with the classes that they name.
    #[arg(long)]
    data: PathBuf,
    /// The score in % that they claim: accuracy, or of parts the mean IoU over objects. That which the file stores unless given.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    claim: Option<f64>,
    /// How they were selected, where that is known; taken to be the best on test unless given.
    #[arg(long, value_enum)]
    selected: Option<SelectionName>,
    /// The preset or TOML file whose network it is; of all presets the one that fits unless given.
    #[arg(long, value_name = "PRESET_OR_FILE")]
    config: Option<String>,
    /// Change one setting of it, or of all presets; may be given again.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// How the names of the network's tensors begin in the file; found by looking unless given.
    #[arg(long)]
    prefix: Option<String>,
    /// The order of the outputs of the head: `source`, that of the labels of the published files; `data`, that of the data set,
    /// which is sorted by name. As the file says unless given, or else source.
    #[arg(long, value_name = "source|data", value_parser = parse_name::<ClassOrder>)]
    class_order: Option<ClassOrder>,
    /// The split to score.
    #[arg(long, default_value = "test")]
    split: Split,
    #[command(flatten)]
    votes: VoteArgs,
    /// Score part segmentation after the refinement by neighbors as well.
    #[arg(long)]
    refine: bool,
    #[command(flatten)]
    folder: ResultFolderArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let percent = text.trim_end_matches('%').trim().parse::<f64>();
    percent
        .ok()
        .filter(|percent| (0.0..=100.0).contains(percent))
        .ok_or_else(|| format!("'{text}' is no percentage between 0 and 100"))
}

impl Audit {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        require_inputs([
            ("CHECKPOINT", Some(self.file.as_path())),
            ("--data", Some(&self.data)),
        ])?;
        anyhow::ensure!(
            self.file.is_file(),
            "the folder is no file of weights; runs of this program are scored by `tap-train evaluate --run`: {}",
            self.file.display()
        );
        self.folder.empty(&[&self.file, &self.data])?;
        match self.task {
            TaskName::Classify => self.audit::<Classify>(|result| {
                vec![
                    ("accuracy", result.score.accuracy),
                    ("mean over classes", result.score.mean_class_accuracy),
                ]
            }),
            TaskName::Segment => self.audit::<Segment>(|result| {
                let score = &result.score.score;
                let mut scores = vec![
                    ("mean IoU over objects", score.plain.instance_miou),
                    ("over classes", score.plain.class_miou),
                ];
                if let Some(refined) = &score.refined {
                    scores.push(("refined by neighbors, over objects", refined.instance_miou));
                    scores.push(("refined, over classes", refined.class_miou));
                }
                scores
            }),
        }
    }

    /// Audits the file for a task, whose scores have names.
    fn audit<T: FinetuneTask>(
        &self,
        scores: impl Fn(&Scored<T::Score>) -> Vec<(&'static str, f64)>,
    ) -> anyhow::Result<ExitCode> {
        let configs = self.configs()?;
        let subject = Subject {
            file: &self.file,
            configs: &configs,
            prefix: self.prefix.as_deref(),
            class_order: self.class_order,
            selection: self.selected.map(Selection::from),
            claim: self.claim,
        };
        let out = self.folder.path();
        let options =
            self.device
                .options(&self.data, out.unwrap_or(Path::new("")), Existing::Refuse, None)?;
        let audited = audit::<T>(&subject, &options, self.split, self.votes.votes(), self.refine)?;
        self.folder.write::<T>(&audited.plain, &audited)?;
        if self.json {
            ui::json(&audited)?;
            return Ok(ExitCode::SUCCESS);
        }
        let Audited { plain, voted, audit } = &audited;
        ui::result(line(&scores(plain), &plain.provenance, Some(audit)));
        if let Some(voted) = voted {
            ui::result(line(&scores(voted), &voted.provenance, None));
        }
        show(audit);
        if let Some(out) = out {
            ui::result(format_args!("{}", out.display()));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Configurations to try, by the name of their preset or file.
    fn configs(&self) -> anyhow::Result<Vec<(String, Config)>> {
        let load =
            |name: &str| -> anyhow::Result<_> { Ok((name.to_owned(), load_config(Some(name), &self.set)?)) };
        match &self.config {
            Some(name) => Ok(vec![load(name)?]),
            // A setting of one backbone is unknown to the others.
            None if !self.set.is_empty() => {
                let loaded: Vec<_> = PRESETS.names().map(load).collect();
                if loaded.iter().any(Result::is_ok) {
                    Ok(loaded.into_iter().flatten().collect())
                } else {
                    loaded.into_iter().take(1).collect()
                }
            }
            None => PRESETS.names().map(load).collect(),
        }
    }
}

/// Scores of one pass or of votes, and how far they are from the claim.
fn line(scores: &[(&str, f64)], provenance: &Provenance, audit: Option<&AuditReport>) -> String {
    let scores: Vec<String> = scores
        .iter()
        .map(|(name, score)| format!("{name} {:.2} %", 100.0 * score))
        .collect();
    let claim = audit.and_then(|audit| audit.claim.as_ref());
    let claimed = claim.map_or_else(String::new, |claim| {
        let difference = match claim.difference {
            difference if difference.abs() < 0.005 => String::from("no difference"),
            difference if difference < 0.0 => format!("{:.2} points less", -difference),
            difference => format!("{difference:.2} points more"),
        };
        format!(
            "; claimed {:.2} % ({}): {difference}",
            claim.percent, claim.source
        )
    });
    format!(
        "{}, on {} ({}, {}, data {}){claimed}",
        scores.join(", "),
        provenance.evaluation_split,
        provenance.selection,
        votes_clause(provenance),
        sha256::short(&provenance.data_sha256),
    )
}

fn show(audit: &AuditReport) {
    let place = match audit.prefix.as_str() {
        "" => String::from("at the top"),
        prefix => format!("under '{prefix}'"),
    };
    ui::result(format_args!(
        "{} tensors, the network of {}, {place} of {}, SHA-256 {}",
        audit.num_tensors,
        audit.network,
        audit.file,
        sha256::short(&audit.file_sha256)
    ));
    if let Some(publication) = &audit.publication {
        ui::result(format_args!("data: a copy of {publication}"));
    }
    ui::result(format_args!("protocol: {}", audit.protocol.join("; ")));
    for reason in &audit.not_comparable {
        ui::result(format_args!("not comparable as it is: {reason}"));
    }
}
