//! `tap-train features`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use strum::VariantNames as _;
use tap_cli::exit_code::INTERRUPTED;
use tap_cli::interrupt;
use tap_cli::ui::{self, Bar};
use tap_dataset::{FeatureViews, feature_set_dir};
use tap_train::model::image::{Activation, ImageEncoderOptions};
use tap_train::process;
use tap_train::task::features::{FeatureEvent, FeatureOptions, compute_features};
use tap_train::weights::downloaded;

use super::require_inputs;

/// Names of tensors without use that are shown.
const MAX_NAMED: usize = 3;
/// Views that go through the network together, on the CPU and on a GPU.
const BATCH_SIZES: [usize; 2] = [16, 128];

const AFTER_HELP: &str = "Examples:
  tap-train features shards --model ViT-B-16.pt --out clip
  tap-train features shards --model dino2-small --layer 7 --out dino7
  tap-train features shards --model ViT-B-16.pt --views depth --out clip-depth
  tap-train features shards --model open_clip.safetensors --activation gelu --out clip
  tap-train features shards --model RN50.pt --images textured --out clip-textured
  tap dataset features shards --model ViT-B-16.pt --out clip        the same

Networks are vision Transformers of CLIP, DINO and DINOv2, of any size, and CLIP's ResNets, from
the files of OpenAI, open_clip, DINO, timm and transformers (.pt, .pth, .safetensors). They are
recognized by names and shapes; no code of a file is run, nothing is downloaded. Killed or
stopped, the same command resumes. Names of networks:
";

/// Arguments of `features`.
#[derive(Debug, Args)]
#[command(after_help = [AFTER_HELP, &downloaded::names().join(", ")].concat())]
pub(crate) struct Features {
    /// A data set of shards.
    data: PathBuf,
    /// The network's weights: a file, or a name for one that PyTorch's hub, `clip` or Hugging Face has downloaded.
    #[arg(long, value_name = "FILE_OR_NAME")]
    model: PathBuf,
    /// Name of the feature set: DATA/__features/NAME.
    #[arg(long, value_name = "NAME")]
    out: String,
    /// What the network is shown: the stored views, or the three depth maps that I2P-MAE makes of the points.
    #[arg(long, default_value = "images",
        value_parser = PossibleValuesParser::new(FeatureViews::VARIANTS).map(|name| name.parse::<FeatureViews>().expect("one of the names")))]
    views: FeatureViews,
    /// The image set that the views are taken from, instead of the data set's own images.
    #[arg(long, value_name = "NAME")]
    images: Option<String>,
    /// Take features behind this block, counted from 0, neither normalized nor projected; behind the whole network if absent.
    #[arg(long, value_name = "K")]
    layer: Option<i64>,
    /// Activation of the network, where its weights do not tell: CLIP in other files than OpenAI's own.
    #[arg(long,
        value_parser = PossibleValuesParser::new(Activation::VARIANTS).map(|name| name.parse::<Activation>().expect("one of the names")))]
    activation: Option<Activation>,
    /// Width and height that views are resized to; 224, or the nearest multiple of a patch, if absent.
    #[arg(long, value_name = "PX", value_parser = clap::value_parser!(i64).range(1..=4096))]
    size: Option<i64>,
    /// Views that go through the network together; 16 on the CPU and 128 on a GPU if absent.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    batch: Option<u16>,
    /// Replace another feature set of this name.
    #[arg(long)]
    force: bool,
    /// `auto`, `cpu` or `cuda:N`.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Threads; one per core if absent. On the CPU the same number gives the same bytes.
    #[arg(long, value_name = "N", alias = "workers")]
    threads: Option<usize>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Features {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let model = downloaded::weights_file(&self.model)?;
        require_inputs([("DATA", Some(self.data.as_path())), ("--model", Some(&model))])?;
        process::set_num_threads(self.threads.unwrap_or(0));
        let device = process::parse_device(&self.device)?;
        let default_batch = BATCH_SIZES[usize::from(device.is_cuda())];
        let options = FeatureOptions {
            data: self.data,
            model,
            name: self.out,
            views: self.views,
            images: self.images,
            size_px: self.size,
            encoder: ImageEncoderOptions {
                layer: self.layer,
                activation: self.activation,
            },
            batch_size: self.batch.map_or(default_batch, usize::from),
            device,
            force: self.force,
        };
        let cancel = interrupt::listen()?;
        let mut bar = None;
        let report = compute_features(&options, &cancel, &mut |event| show(&event, &mut bar));
        drop(bar);
        let Some(report) = report? else {
            let dir = feature_set_dir(&options.data, &options.name)?;
            ui::note(format_args!(
                "stopped; run the same command again to resume: {}",
                dir.display()
            ));
            return Ok(ExitCode::from(INTERRUPTED));
        };
        if self.json {
            ui::json(&report)?;
            return Ok(ExitCode::SUCCESS);
        }
        let layout = report.layout;
        let computed = match report.num_computed {
            0 => String::from("finished before"),
            count => format!("{count} computed now, {:.1} views/s", report.views_per_s),
        };
        ui::result(format_args!(
            "{} objects of {} views, {}x{} patches of {} channels, {}; {computed}: {}",
            report.num_rows,
            layout.num_views,
            layout.height,
            layout.width,
            layout.num_channels,
            ui::bytes(report.bytes),
            report.path.display()
        ));
        Ok(ExitCode::SUCCESS)
    }
}

fn show(event: &FeatureEvent, bar: &mut Option<Bar>) {
    match event {
        FeatureEvent::Recognized {
            network,
            num_tensors,
            naming,
            prefix,
            other_prefixes,
            unused,
            num_elsewhere,
        } => {
            let place = if prefix.is_empty() {
                String::new()
            } else {
                format!(", in '{prefix}'")
            };
            let mut parts = vec![format!(
                "{network}: {num_tensors} tensors under the names of {naming}{place}"
            )];
            if !other_prefixes.is_empty() {
                parts.push(format!("passed over: '{}'", other_prefixes.join("', '")));
            }
            if !unused.is_empty() {
                let named: Vec<&str> = unused.iter().take(MAX_NAMED).map(String::as_str).collect();
                let more = if unused.len() > MAX_NAMED { ", ..." } else { "" };
                parts.push(format!(
                    "{} without use: {}{more}",
                    unused.len(),
                    named.join(", ")
                ));
            }
            if *num_elsewhere > 0 {
                parts.push(format!("{num_elsewhere} elsewhere in the file"));
            }
            ui::note(parts.join("; "));
        }
        FeatureEvent::Started {
            num_rows,
            num_finished,
            num_bytes,
            ..
        } => {
            let resumed = match num_finished {
                0 => String::new(),
                count => format!(", {count} of them finished before"),
            };
            ui::note(format_args!(
                "{num_rows} objects{resumed}; {} in all",
                ui::bytes(*num_bytes)
            ));
            let new = Bar::new("features", *num_rows as u64);
            new.skip(*num_finished as u64);
            *bar = Some(new);
        }
        FeatureEvent::Rows { num_rows } => {
            if let Some(bar) = bar {
                (0..*num_rows).for_each(|_| bar.advance());
            }
        }
        _ => {}
    }
}
