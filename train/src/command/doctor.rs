//! `tap-train doctor`: what `tap doctor` asks this program, since it alone is linked to libtorch.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use tap_cli::ui;
use tap_train::process;
use tap_train::task::provenance::VERSION;
use tch::{Cuda, Kind, Tensor};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// The environment of this program.
#[derive(Debug, Serialize)]
struct Report {
    /// Version of this program.
    version: &'static str,
    /// Of the libtorch that is loaded; "unknown" where it does not say.
    libtorch_version: String,
    /// The version that this program was written for.
    libtorch_expected: &'static str,
    /// Its path.
    libtorch_path: Option<String>,
    /// CUDA kernels and a device are there.
    has_cuda: bool,
    /// Number of devices.
    num_cuda_devices: i64,
    /// Threads of torch.
    num_threads: usize,
    /// An operation gave the right result.
    is_working: bool,
}

/// The libtorch that tch 0.24 is written against.
const EXPECTED: &str = "2.11.0";

impl Doctor {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let has_cuda = process::load_cuda();
        let product = Tensor::f_ones([2, 3], (Kind::Float, tch::Device::Cpu))?
            .f_matmul(&Tensor::ones([3, 2], (Kind::Float, tch::Device::Cpu)))?;
        let path = process::libtorch_file();
        let report = Report {
            version: VERSION,
            libtorch_version: option_env!("TAP_LIBTORCH_VERSION")
                .unwrap_or("unknown")
                .to_owned(),
            libtorch_expected: EXPECTED,
            libtorch_path: path.map(|path| path.display().to_string()),
            has_cuda,
            num_cuda_devices: Cuda::device_count(),
            num_threads: process::set_num_threads(0),
            is_working: (product.f_sum(Kind::Float)?.double_value(&[]) - 12.0).abs() < 1e-6,
        };
        if self.json {
            ui::json(&report)?;
        } else {
            ui::result(format_args!(
                "libtorch   {} (expected {}) at {}",
                report.libtorch_version,
                report.libtorch_expected,
                report.libtorch_path.as_deref().unwrap_or("unknown")
            ));
            ui::result(format_args!(
                "CUDA       {}",
                if report.has_cuda {
                    format!("{} devices", report.num_cuda_devices)
                } else {
                    String::from("no: training runs on the CPU")
                }
            ));
            ui::result(format_args!("threads    {}", report.num_threads));
            ui::result(format_args!(
                "operation  {}",
                if report.is_working {
                    "right"
                } else {
                    "wrong result"
                }
            ));
        }
        Ok(if report.is_working {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
