//! `tap-train generate`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use tap_cli::ui;
use tap_dataset::Split;
use tap_train::run::Existing;
use tap_train::run::weights::WeightChoice;
use tap_train::task::generate::{Drawings, Wanted, generate, is_generated};

use super::mesh_data::{MeshData, MeshFlags};
use super::{DeviceArgs, parse_checkpoint, replace_file, require_inputs};
use crate::progress::Progress;

/// Views a second of an animation.
const DEFAULT_VIEWS_PER_S: u16 = 12;

/// Arguments of `generate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tap-train generate --run out/tap --data out/real --out views.png
  tap-train generate --run out/tap --data out/real --ids chair/0001,lamp/0002 --out views.png
  tap-train generate --run out/tap --data out/real --checkpoint best --out views.png
  tap-train generate --run out/tap --data out/real --ids chair/0001 --rig turntable:36:30 --out sheet.png --animation turn.png
  tap-train generate --run out/tap --data out/real --rig sphere:12 --meshes meshes --out sheet.png
  tap-train generate --run out/tap --mesh chair.obj --out views.png
  tap-train generate --run out/tap --mesh chair.obj --rig turntable:36:30 --out sheet.png --animation turn.png
  tap-train generate --run out/tap --mesh chair.obj --rig poses:10/60,200/-20 --out sheet.png

With --mesh, `tap` samples the points and draws the true views, by the recipe of the data that the run was trained on. With
--data and --rig it makes the poses, and the true views where --meshes says where the meshes of the rows are.")]
pub(crate) struct Generate {
    /// A pre-trained run: of TAP, or of a sum of methods with TAP in it.
    #[arg(long)]
    run: PathBuf,
    /// A data set of shards, of any rig.
    #[arg(long, required_unless_present = "mesh", conflicts_with = "mesh")]
    data: Option<PathBuf>,
    #[command(flatten)]
    mesh: MeshFlags,
    /// The split that the objects are in.
    #[arg(long, default_value = "test", conflicts_with = "mesh")]
    split: Split,
    /// Objects; one of each class if absent.
    #[arg(long, value_delimiter = ',', conflicts_with = "mesh")]
    ids: Vec<String>,
    /// The PNG to write: rows of generated above rows of true views, where there are such, for each object.
    #[arg(long)]
    out: PathBuf,
    /// An animated PNG to write too: one view after the other, generated above true, a column for each object.
    #[arg(long, value_name = "FILE.png")]
    animation: Option<PathBuf>,
    /// Views a second of the animation.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_VIEWS_PER_S, requires = "animation", value_parser = clap::value_parser!(u16).range(1..=60))]
    fps: u16,
    /// Replace the images, if this command drew them.
    #[arg(long)]
    force: bool,
    /// Weights of the run: `best` (the checkpoint with the lowest validation loss), `latest` (the newest), the step of a
    /// checkpoint, or a file of weights or the folder of a checkpoint.
    #[arg(long, value_name = "best|latest|STEP|FILE", value_parser = parse_checkpoint, default_value = "latest")]
    checkpoint: WeightChoice,
    #[command(flatten)]
    device: DeviceArgs,
}

impl Generate {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        self.mesh.check()?;
        let (data, mesh) = (self.data.as_deref(), self.mesh.mesh.as_deref());
        let meshes = self.mesh.meshes.as_deref();
        require_inputs([
            ("--run", Some(self.run.as_path())),
            ("--data", data),
            ("--mesh", mesh),
            ("--meshes", meshes),
        ])?;
        let inputs = [data, mesh, meshes, Some(&self.run)];
        let inputs: Vec<&Path> = inputs.into_iter().flatten().collect();
        for file in [Some(&self.out), self.animation.as_ref()].into_iter().flatten() {
            replace_file(file, self.force, &inputs, is_generated)?;
        }
        anyhow::ensure!(
            self.animation.as_ref() != Some(&self.out),
            "--out and --animation are two files"
        );
        let of_mesh = self.mesh.build(&self.run)?;
        let split = of_mesh.as_ref().map_or(self.split, |_| MeshData::SPLIT);
        let data = of_mesh.as_ref().map(MeshData::path).or(data);
        let data = data.expect("clap asks for one of both");
        let posed = match &of_mesh {
            Some(_) => None,
            None => self.mesh.pose(&self.run, data, split, &self.ids)?,
        };
        // The views lie in a temporary folder until all is drawn.
        let (_views, posed) = posed.unzip();
        let options = self.device.options(data, &self.run, Existing::Resume, None)?;
        let wanted = Wanted {
            split,
            ids: self.ids,
            weights: self.checkpoint,
            images: of_mesh.as_ref().map(|_| String::new()),
            posed,
        };
        let drawings = Drawings {
            sheet: self.out,
            animation: self.animation.map(|file| (file, self.fps)),
        };
        let mut progress = Progress::new(false);
        let ids = generate(&options, &wanted, &drawings, &mut |event| progress.show(&event))?;
        for id in &ids {
            ui::result(id);
        }
        Ok(ExitCode::SUCCESS)
    }
}
