//! `tap-train embed`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use tap_cli::scatter::{Group, scatter};
use tap_cli::ui;
use tap_dataset::{Split, sha256};
use tap_train::run::Existing;
use tap_train::task::embed::{ARRAY_FILE, EMBED_FILE, Embedded, TABLE_FILE, embed};
use tap_train::task::embedding::Pooling;
use tap_train::task::tsne::{DEFAULT_PERPLEXITY, TsneOptions, tsne};
use tap_train::weights::safetensors::write_atomic;

use super::{
    CheckpointArgs, ConfigArgs, DeviceArgs, RowArgs, empty_folder, parse_name, replace_file, require_inputs,
};
use crate::progress::Progress;

/// Arguments of `embed`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tap-train embed --data out/data --init out/tap --out out/embeddings
  tap-train embed --data out/data --init encoder.safetensors --split test --pooling max --out out/embeddings
  tap-train embed --data out/real --init out/tuned --split test --out out/embeddings --plot out/figure5.svg")]
pub(crate) struct Embed {
    /// A data set of shards.
    #[arg(long)]
    data: PathBuf,
    /// The encoder: a run or a safetensors file.
    #[arg(long, value_name = "RUN_OR_FILE")]
    init: PathBuf,
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// The folder for `embeddings.parquet` (id, category, label, split, feature), `embeddings.npy` (rows x channels) and
    /// `embed.json` (what they are of).
    #[arg(long)]
    out: PathBuf,
    /// Splits to embed; all that have rows unless given.
    #[arg(long, value_delimiter = ',')]
    split: Vec<Split>,
    /// What becomes of the tokens of a cloud: max, mean, sum (maximum plus mean), max-mean (both, one behind the other).
    #[arg(long, default_value = "max-mean", value_parser = parse_name::<Pooling>)]
    pooling: Pooling,
    /// Also draw them: points of a plane by t-SNE, in the colors of their classes.
    #[arg(long, value_name = "FILE.svg", value_parser = parse_plot)]
    plot: Option<PathBuf>,
    /// Effective number of neighbors of t-SNE; a third of the objects at most.
    #[arg(long, default_value_t = DEFAULT_PERPLEXITY, requires = "plot")]
    perplexity: f64,
    /// Seed of t-SNE.
    #[arg(long, default_value_t = 0, requires = "plot")]
    plot_seed: u64,
    /// Replace earlier embeddings and plots; refused where the folder holds anything else, or an input.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    rows: RowArgs,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print what was written as JSON.
    #[arg(long)]
    json: bool,
}

impl Embed {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let inputs = [
            ("--data", Some(self.data.as_path())),
            ("--init", Some(&self.init)),
        ];
        require_inputs(inputs)?;
        let init = self.checkpoint.encoder(&self.init)?;
        let mut config = self.config.load_for(Some(&self.init))?;
        self.rows.apply(&mut config);
        empty_folder(
            &self.out,
            self.force,
            &[&self.data, &self.init, &init],
            &[EMBED_FILE, TABLE_FILE, ARRAY_FILE],
        )?;
        let options = self
            .device
            .options(&self.data, &self.out, Existing::Refuse, None)?;
        if let Some(plot) = &self.plot {
            let inputs = [self.data.as_path(), &self.init, &init];
            replace_file(plot, self.force, &inputs, is_plot)?;
        }
        let mut progress = Progress::new(false);
        let embedded = embed(
            &config,
            &options,
            &init,
            &self.split,
            self.pooling,
            &mut |event| {
                progress.show(&event);
            },
        )?;
        if let Some(plot) = &self.plot {
            write_atomic(plot, self.draw(&embedded)?.as_bytes())?;
        }
        let result = embedded.result;
        if self.json {
            ui::json(&result)?;
        } else {
            ui::result(format_args!(
                "{} rows of {} channels ({}): {}",
                result.num_rows,
                result.num_channels,
                result.pooling,
                self.out.display()
            ));
            if let Some(plot) = &self.plot {
                ui::result(format_args!("{}", plot.display()));
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The features as points of a plane, in the colors of their classes.
    fn draw(&self, embedded: &Embedded) -> anyhow::Result<String> {
        let Embedded {
            result,
            features,
            labels,
        } = embedded;
        let options = TsneOptions {
            perplexity: self.perplexity,
            seed: self.plot_seed,
        };
        let options = options.for_points(result.num_rows);
        let points = tsne(features, result.num_channels, options)?;
        let of_label = |label: i64| -> Vec<[f64; 2]> {
            let labeled = points.iter().zip(labels).filter(|(_, other)| **other == label);
            labeled.map(|(point, _)| *point).collect()
        };
        let classes = result.classes.iter().zip(0..);
        let mut groups: Vec<Group<'_>> = classes
            .map(|(class, label)| Group {
                label: class,
                points: of_label(label),
            })
            .filter(|group| !group.points.is_empty())
            .collect();
        let without_class = of_label(-1);
        if !without_class.is_empty() {
            groups.push(Group {
                label: "no class",
                points: without_class,
            });
        }
        let notes = format!(
            "{PLOT_MARK}; t-SNE of {} features ({}), perplexity {}, seed {}; data {}, encoder {}, version {}",
            result.num_rows,
            result.pooling,
            options.perplexity,
            options.seed,
            sha256::short(&result.data_sha256),
            sha256::short(&result.init_sha256),
            result.version
        );
        let title = format!("{}: {}", self.init.display(), result.splits.join(", "));
        Ok(scatter(&title, &notes, &groups))
    }
}

/// What every plot says of itself.
const PLOT_MARK: &str = "drawn by tap-train embed";

fn is_plot(file: &Path) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| text.starts_with("<svg") && text.contains(PLOT_MARK))
}

/// The name of a file that is written as SVG.
fn parse_plot(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.extension().is_some_and(|extension| extension == "svg") {
        Ok(path)
    } else {
        Err(format!("a plot is an SVG, and '{text}' does not end in .svg"))
    }
}
