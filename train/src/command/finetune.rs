//! `tap-train finetune`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::Serialize;
use tap_cli::exit_code::INTERRUPTED;
use tap_cli::{interrupt, ui};
use tap_train::config::Task;
use tap_train::engine::trainer::RunOptions;
use tap_train::ranks::Ranks;
use tap_train::run::request::Request;
use tap_train::task::classify::Classify;
use tap_train::task::finetune::finetune;
use tap_train::task::provenance::Provenance;
use tap_train::task::segment::{Segment, SegmentResult};

use super::begun::Begun;
use super::child_run::ParentArgs;
use super::rank::RankArgs;
use super::{
    ConfigArgs, DeviceArgs, ExistingArgs, InitCheckpointArgs, TrainRowArgs, finished_line, parse_labels,
    plan_of_encoder_on, require_inputs,
};
use crate::progress::Progress;

/// What to fine-tune for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum TaskName {
    /// Name the class of an object.
    Classify,
    /// Name the part of every point.
    Segment,
}

impl TaskName {
    /// The task of a run that goes on; classification of a new one.
    fn of(begun: Option<&Request>) -> Self {
        match begun {
            Some(request) if request.task == Task::Segment => Self::Segment,
            _ => Self::Classify,
        }
    }
}

/// Arguments of `finetune`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tap-train finetune --task classify --data out/real --out out/scratch --labels-per-class 5
  tap-train finetune --task classify --data out/real --out out/tuned --init out/tap --labels-per-class 5 --seed 1
  tap-train finetune --data out/real --out out/tuned --init out/tap --checkpoint best --set finetune.layer_decay=0.65
  tap-train finetune --data out/real --out out/tuned --init out/tap --set finetune.freeze_encoder_steps=100
  tap-train finetune --task classify --data out/real --out out/tuned --init encoder.safetensors --set finetune.steps=600
  tap-train finetune --task segment --data out/shapes --out out/parts --init out/tap --set segment.steps=600
  tap-train finetune --out out/tuned --resume
  tap-train finetune --continue-from out/tuned --out out/longer --set finetune.steps=900")]
pub(crate) struct Finetune {
    /// The task; classify, or with --resume or --continue-from that of the run, unless given.
    #[arg(long, value_enum)]
    task: Option<TaskName>,
    /// A data set of shards; with --resume or --continue-from that of the run, unless given.
    #[arg(long, required_unless_present_any = ["resume", "continue_from"])]
    data: Option<PathBuf>,
    /// The run folder to write.
    #[arg(long)]
    out: PathBuf,
    /// Start from the encoder of a run or of a safetensors file; from scratch if absent.
    #[arg(long, value_name = "RUN_OR_FILE", conflicts_with = "continue_from")]
    init: Option<PathBuf>,
    #[command(flatten)]
    checkpoint: InitCheckpointArgs,
    /// With the preset, the encoder's sizes and the points of this run: from scratch, or from an --init that lies in no run.
    #[arg(long, value_name = "RUN", conflicts_with = "continue_from")]
    like: Option<PathBuf>,
    /// Labels a class to learn from, drawn by the seed: a number or `all`; all, or with --resume those of the run, unless
    /// given.
    #[arg(long, value_parser = parse_labels)]
    labels_per_class: Option<usize>,
    #[command(flatten)]
    rows: TrainRowArgs,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    existing: ExistingArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    ranks: RankArgs,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    parent: ParentArgs,
}

impl Finetune {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        self.ranks.with_ranks(|ranks| self.train(&ranks))
    }

    fn train(&self, ranks: &Ranks) -> anyhow::Result<ExitCode> {
        let begun = Begun::read(&self.existing, &self.out, ranks)?;
        begun.require_pretraining(false)?;
        let begun_request = begun.request.as_ref();
        let data = begun.data(self.data.clone())?;
        let continue_from = self.existing.continue_from.as_deref();
        if ranks.is_first() {
            require_inputs([("--like", self.like.as_deref())])?;
        }
        let init = self
            .existing
            .init(ranks, self.init.as_deref(), &self.checkpoint)?;
        let run = self.like.as_deref().or(self.init.as_deref());
        let inputs = [
            self.init.as_deref(),
            self.like.as_deref(),
            continue_from,
            self.config.settings.file(),
        ];
        let mut config = match begun_request {
            Some(_) if self.like.is_none() => self.config.load_on(begun_request)?,
            _ => self.config.load_like(plan_of_encoder_on(ranks, run)?.as_ref())?,
        };
        self.rows.apply(&mut config)?;
        let mixed = config.data.mix.iter().map(|set| Path::new(&set.data));
        let existing = self
            .existing
            .existing(ranks, &self.out, inputs.into_iter().flatten().chain(mixed))?;
        let options = RunOptions {
            continue_from: self.existing.continue_from.clone(),
            ..self
                .device
                .options_of(ranks, &data, &self.out, existing, begun_request)?
        };
        let cancel = interrupt::listen()?;
        self.parent.watch(&cancel);
        let mut progress = Progress::new(!ranks.is_first());
        let mut on_event = |event| progress.show(&event);
        let labels_of_run = begun_request.map(|request| request.labels_per_class);
        let labels = self.labels_per_class.or(labels_of_run).unwrap_or(0);
        let init = init.as_deref();
        match self.task.unwrap_or_else(|| TaskName::of(begun_request)) {
            TaskName::Classify => {
                let result = finetune::<Classify>(&config, &options, labels, init, &cancel, &mut on_event)?;
                self.report(ranks, result, &progress, |result| {
                    format!(
                        "accuracy {:.1} %, mean over classes {:.1} %, on {} ({}, no voting){}",
                        100.0 * result.score.accuracy,
                        100.0 * result.score.mean_class_accuracy,
                        result.provenance.evaluation_split,
                        selection_clause(&result.provenance),
                        labels_clause(&result.provenance)
                    )
                })
            }
            TaskName::Segment => {
                let result = finetune::<Segment>(&config, &options, labels, init, &cancel, &mut on_event)?;
                self.report(ranks, result, &progress, segment_line)
            }
        }
    }

    /// The result, if the run came to its end.
    fn report<R: Serialize>(
        &self,
        ranks: &Ranks,
        result: Option<R>,
        progress: &Progress,
        line: impl FnOnce(&R) -> String,
    ) -> anyhow::Result<ExitCode> {
        let Some(result) = result else {
            return Ok(ExitCode::from(INTERRUPTED));
        };
        if !ranks.is_first() {
            return Ok(ExitCode::SUCCESS);
        }
        if self.json {
            ui::json(&result)?;
        } else if progress.finished_before() {
            ui::result(finished_line(&self.out, &line(&result)));
        } else {
            ui::result(line(&result));
            ui::result(format_args!("{}", self.out.display()));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Scores of part segmentation in a line.
pub(super) fn segment_line(SegmentResult { provenance, score }: &SegmentResult) -> String {
    let score = &score.score;
    let refined = match &score.refined {
        Some(refined) => format!(
            "refined by neighbors {:.1} % and {:.1} %",
            100.0 * refined.instance_miou,
            100.0 * refined.class_miou
        ),
        None => String::from("not refined"),
    };
    format!(
        "mean IoU over objects {:.1} %, over classes {:.1} %, {refined}, on {} ({}, {}){}",
        100.0 * score.plain.instance_miou,
        100.0 * score.plain.class_miou,
        provenance.evaluation_split,
        selection_clause(provenance),
        votes_clause(provenance),
        labels_clause(provenance)
    )
}

/// Which weights were scored, and which evaluation selected them.
pub(super) fn selection_clause(provenance: &Provenance) -> String {
    match provenance.selected {
        Some(best) => format!(
            "{}: step {} with {:.1} %",
            provenance.selection,
            best.step,
            100.0 * best.score
        ),
        None => provenance.selection.clone(),
    }
}

/// How many votes, and what they are averaged of.
pub(super) fn votes_clause(provenance: &Provenance) -> String {
    match provenance.votes {
        0 => String::from("no voting"),
        votes => format!(
            "{} averaged over the plain pass and {votes} votes",
            provenance.votes_average
        ),
    }
}

/// The end of a line: the number of labels, where there were fewer than requested.
pub(super) fn labels_clause(provenance: &Provenance) -> String {
    provenance
        .labels_note()
        .map_or_else(String::new, |note| format!("; {note}"))
}
