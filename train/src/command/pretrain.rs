//! `tap-train pretrain`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use tap_cli::exit_code::INTERRUPTED;
use tap_cli::{interrupt, ui};
use tap_train::engine::trainer::RunOptions;
use tap_train::ranks::Ranks;
use tap_train::task::pretrain::{PretrainResult, pretrain};

use super::begun::Begun;
use super::child_run::ParentArgs;
use super::rank::RankArgs;
use super::{
    ConfigArgs, DeviceArgs, ExistingArgs, InitCheckpointArgs, TrainRowArgs, finished_line, require_inputs,
};
use crate::progress::Progress;

/// Arguments of `pretrain`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tap-train pretrain --data out/real --out out/tap
  tap-train pretrain --data out/real --out out/tap --set pretrain.steps=1000 --seed 1
  tap-train pretrain --data out/real --out out/seats --where \"category in ('chair', 'sofa') and coverage_min > 0.02\"
  tap-train pretrain --data out/shapes --mix out/real=0.5 --out out/mixed
  tap-train pretrain --data out/shapes224 --out out/paper --config paper-transformer --set compat=code --device cuda:0
  tap-train pretrain --out out/tap --resume
  tap-train pretrain --continue-from out/tap --out out/tap-longer --set pretrain.steps=2000")]
pub(crate) struct Pretrain {
    /// A data set of shards; with --resume or --continue-from that of the run, unless given.
    #[arg(long, required_unless_present_any = ["resume", "continue_from"])]
    data: Option<PathBuf>,
    /// The run folder to write.
    #[arg(long)]
    out: PathBuf,
    /// Start from the encoder of a run or of a safetensors file.
    #[arg(long, value_name = "RUN_OR_FILE", conflicts_with = "continue_from")]
    init: Option<PathBuf>,
    #[command(flatten)]
    checkpoint: InitCheckpointArgs,
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

impl Pretrain {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        self.ranks.with_ranks(|ranks| self.train(&ranks))
    }

    fn train(&self, ranks: &Ranks) -> anyhow::Result<ExitCode> {
        let begun = Begun::read(&self.existing, &self.out, ranks)?;
        begun.require_pretraining(true)?;
        let mut config = self.config.load_on(begun.request.as_ref())?;
        self.rows.apply(&mut config)?;
        let data = begun.data(self.data.clone())?;
        let continue_from = self.existing.continue_from.as_deref();
        require_inputs([(
            "loss.perceptual_network",
            config.loss.perceptual_network.as_deref(),
        )])?;
        let init = self
            .existing
            .init(ranks, self.init.as_deref(), &self.checkpoint)?;
        let inputs = [self.init.as_deref(), continue_from, self.config.settings.file()];
        let mixed = config.data.mix.iter().map(|set| Path::new(&set.data));
        let existing = self
            .existing
            .existing(ranks, &self.out, inputs.into_iter().flatten().chain(mixed))?;
        let options = RunOptions {
            continue_from: self.existing.continue_from.clone(),
            ..self
                .device
                .options_of(ranks, &data, &self.out, existing, begun.request.as_ref())?
        };
        let cancel = interrupt::listen()?;
        self.parent.watch(&cancel);
        let mut progress = Progress::new(!ranks.is_first());
        let result = pretrain(&config, &options, init.as_deref(), &cancel, &mut |event| {
            progress.show(&event);
        })?;
        let Some(result) = result else {
            return Ok(ExitCode::from(INTERRUPTED));
        };
        if !ranks.is_first() {
            return Ok(ExitCode::SUCCESS);
        }
        let score = format!(
            "validation loss {:.4} on {} after {} steps ({}, no selection)",
            result.get("validation_loss"),
            result.evaluation_split,
            result.num_steps,
            result.selection
        );
        if self.json {
            ui::json(&result)?;
        } else if progress.finished_before() {
            ui::result(finished_line(&self.out, &score));
        } else {
            ui::result(score);
            if let Some(baselines) = baselines(&result) {
                ui::result(baselines);
            }
            ui::result(throughput(&result));
            ui::result(format_args!("{}", self.out.display()));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn throughput(result: &PretrainResult) -> String {
    let views = if result.views_per_s > 0.0 {
        format!("{:.0} views/s, ", result.views_per_s)
    } else {
        String::new()
    };
    format!(
        "{:.0} samples/s, {views}data wait {:.1} %, {:.0} s, {:.0} CPU-s on {} threads",
        result.samples_per_s,
        100.0 * result.data_wait,
        result.elapsed_s,
        result.cpu_s,
        result.num_threads
    )
}

/// The losses of trivial predictors, where the method knows some.
fn baselines(result: &PretrainResult) -> Option<String> {
    result.scalars.get("weighted_mean_image_loss")?;
    Some(format!(
        "loss-optimal image of each view {:.4}, true mask with mean gray {:.4}, loss-optimal gray {:.4}",
        result.get("weighted_mean_image_loss"),
        result.get("true_mask_gray_loss"),
        result.get("constant_loss")
    ))
}
