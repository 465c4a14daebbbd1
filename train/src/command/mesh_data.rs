//! A data set of one mesh, made as that of a run was.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use tap_dataset::{Dataset, Split};
use tap_train::run::request::Request;
use tempfile::TempDir;

use super::tap_build;

/// A mesh, and how it is seen.
#[derive(Debug, Args)]
pub(crate) struct MeshFlags {
    /// A mesh in place of a data set: OBJ, OFF, PLY, STL or glTF.
    #[arg(long, value_name = "FILE")]
    pub(crate) mesh: Option<PathBuf>,
    /// Poses to draw from, as `tap render --rig` takes them: turntable:N[:ELEVATION,...], sphere:N, poses:AZIMUTH/ELEVATION,...
    /// or a JSON file; those of the run's data set if absent.
    #[arg(long, value_name = "RIG|FILE.json", requires = "mesh")]
    rig: Option<String>,
    /// The lighting of the true views, as `tap render --lighting` takes it; that of the run's data set if absent.
    #[arg(long, value_name = "NAME|FILE.toml", requires = "mesh")]
    lighting: Option<String>,
    /// The up axis of the mesh: y or z; that of the run's data set if absent.
    #[arg(long, value_name = "AXIS", requires = "mesh")]
    up: Option<String>,
    /// The recipe, as `tap dataset build --config` takes it, in place of that of the run's data set.
    #[arg(long, value_name = "PRESET|FILE.toml", requires = "mesh")]
    recipe: Option<String>,
}

/// Such a data set; it is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct MeshData {
    _folder: TempDir,
    path: PathBuf,
}

impl MeshData {
    /// The split that the mesh is in.
    pub(crate) const SPLIT: Split = Split::Train;

    /// The folder of the data set.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl MeshFlags {
    /// Makes it, where there is a mesh, by the recipe of the data set that `run` was trained on.
    pub(crate) fn build(&self, run: &Path) -> anyhow::Result<Option<MeshData>> {
        let Some(mesh) = &self.mesh else {
            return Ok(None);
        };
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let recipe = match &self.recipe {
            Some(recipe) => PathBuf::from(recipe),
            None => recipe_of(run, folder.path())?,
        };
        let path = folder.path().join("data");
        // In place of a list of splits that may lie near the mesh.
        let mut arguments = vec![OsStr::new("--split-fractions"), OsStr::new("1,0")];
        arguments.extend([OsStr::new("--config"), recipe.as_os_str()]);
        for (flag, value) in [
            ("--rig", &self.rig),
            ("--lighting", &self.lighting),
            ("--up", &self.up),
        ] {
            let value = value.iter();
            arguments.extend(value.flat_map(|value| [OsStr::new(flag), OsStr::new(value)]));
        }
        tap_build::build(mesh, &path, arguments)?;
        Ok(Some(MeshData {
            _folder: folder,
            path,
        }))
    }
}

/// The recipe of the data set that a run was trained on, as a file in `folder`; it leaves out no object.
fn recipe_of(run: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let request = Request::read(run)?;
    let data = request.and_then(|request| request.data).with_context(|| {
        format!(
            "the run does not say where its data is; pass --recipe: {}",
            run.display()
        )
    })?;
    let dataset = Dataset::open(Path::new(&data))
        .context("the recipe of the run's data set cannot be read; pass --recipe")?;
    let recipe = &dataset.manifest().recipe;
    let recipe = toml::Value::try_from(recipe)
        .ok()
        .and_then(|recipe| match recipe {
            toml::Value::Table(table) if table.contains_key("render") => Some(table),
            _ => None,
        });
    let mut recipe = recipe
        .with_context(|| format!("the run's data set was not built from meshes; pass --recipe: {data}"))?;
    recipe.remove("min_coverage");
    let file = folder.join("recipe.toml");
    std::fs::write(&file, toml::to_string(&recipe)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}
