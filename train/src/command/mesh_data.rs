//! Views for `generate` that no data set has, drawn by `tap` by the recipe of the data that a run was trained on: of one mesh,
//! or of rows of a data set from other poses.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use tap_cli::exit_code;
use tap_dataset::{Dataset, ObjectId, Sample, Split};
use tap_train::run::request::Request;
use tap_train::task::generate::{PosedViews, ViewSubject, rows_to_draw};
use tempfile::TempDir;
use toml::{Table, Value};

use super::tap_build;

/// The class of stand-ins for the points of rows.
const STAND_INS: &str = "points";
/// Half the side of the triangle that stands for a point, in object space.
const POINT_RADIUS: f32 = 0.02;
/// Layouts of meshes as manifests and `--layout` name them.
const LAYOUTS: [&str; 6] = ["shapenet", "shrec16", "modelnet", "objaverse", "folders", "csv"];

/// A mesh or rows of a data set, and how they are seen.
#[derive(Debug, Args)]
pub(crate) struct MeshFlags {
    /// A mesh in place of a data set: OBJ, OFF, PLY, STL or glTF.
    #[arg(long, value_name = "FILE")]
    pub(crate) mesh: Option<PathBuf>,
    /// Poses to draw from, as `tap render --rig` takes them: turntable:N[:ELEVATION,...], sphere:N, poses:AZIMUTH/ELEVATION,...
    /// or a JSON file; those of the views that are there if absent. Of rows there are no true views from such poses, unless
    /// --meshes says where the meshes are.
    #[arg(long, value_name = "RIG|FILE.json")]
    rig: Option<String>,
    /// The meshes that the data set was built from, as `tap dataset build` was given them: for true views from the poses of
    /// --rig.
    #[arg(long, value_name = "SRC", conflicts_with = "mesh")]
    pub(crate) meshes: Option<PathBuf>,
    /// The lighting of the true views, as `tap render --lighting` takes it; that of the run's data set if absent.
    #[arg(long, value_name = "NAME|FILE.toml")]
    lighting: Option<String>,
    /// The up axis of the mesh: y or z; that of the run's data set if absent.
    #[arg(long, value_name = "AXIS", requires = "mesh")]
    up: Option<String>,
    /// The recipe, as `tap dataset build --config` takes it, in place of that of the run's data set.
    #[arg(long, value_name = "PRESET|FILE.toml")]
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
    /// Refuses flags that would do nothing.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let has_meshes = self.mesh.is_some() || self.meshes.is_some();
        if self.lighting.is_some() && !has_meshes {
            return Err(exit_code::usage(
                "--lighting is that of true views, which need --mesh or --meshes",
            ));
        }
        if self.recipe.is_some() && !has_meshes && self.rig.is_none() {
            return Err(exit_code::usage(
                "--recipe says how views are drawn, which need --mesh, --rig or --meshes",
            ));
        }
        Ok(())
    }

    /// Makes a data set of the mesh, where there is one, by the recipe of the data set that `run` was trained on.
    pub(crate) fn build(&self, run: &Path) -> anyhow::Result<Option<MeshData>> {
        let Some(mesh) = &self.mesh else {
            return Ok(None);
        };
        let folder = temporary_folder()?;
        let recipe = match &self.recipe {
            Some(recipe) => PathBuf::from(recipe),
            None => written(&recipe_of_run(run)?, folder.path())?,
        };
        // In place of a list of splits that may lie near the mesh.
        let splits = [OsStr::new("--split-fractions"), OsStr::new("1,0")];
        let up = self.up.iter().flat_map(|up| [OsStr::new("--up"), OsStr::new(up)]);
        let arguments = splits.into_iter().chain(up).chain(self.view_arguments(&recipe));
        let path = folder.path().join("data");
        tap_build::build(mesh, &path, arguments)?;
        Ok(Some(MeshData {
            _folder: folder,
            path,
        }))
    }

    /// Makes views of rows of the data set, where other poses or true views are asked for.
    pub(crate) fn pose(
        &self,
        run: &Path,
        data: &Path,
        split: Split,
        ids: &[String],
    ) -> anyhow::Result<Option<(MeshData, PosedViews)>> {
        if self.rig.is_none() && self.meshes.is_none() {
            return Ok(None);
        }
        let rows = rows_to_draw(data, split, ids)?;
        let folder = temporary_folder()?;
        let path = folder.path().join("data");
        let (ids, subject) = match &self.meshes {
            Some(meshes) => self.draw_meshes(meshes, run, data, &rows, folder.path(), &path)?,
            None => self.draw_stand_ins(run, &rows, folder.path(), &path)?,
        };
        let posed = PosedViews {
            rows,
            views: path.clone(),
            split: MeshData::SPLIT,
            ids,
            subject,
        };
        let data = MeshData {
            _folder: folder,
            path,
        };
        Ok(Some((data, posed)))
    }

    /// Views of the meshes of rows, sampled and normalized as the data set was, drawn as that of the run was.
    fn draw_meshes(
        &self,
        meshes: &Path,
        run: &Path,
        data: &Path,
        rows: &[Sample],
        folder: &Path,
        out: &Path,
    ) -> anyhow::Result<(Vec<ObjectId>, ViewSubject)> {
        let dataset = Dataset::open(data)?;
        let mut recipe = recipe_of(&dataset).with_context(|| {
            format!(
                "--meshes: the data set was not built from meshes: {}",
                data.display()
            )
        })?;
        if let Some(render) = recipe_of_run(run)
            .ok()
            .and_then(|mut recipe| recipe.remove("render"))
        {
            recipe.insert(String::from("render"), render);
        }
        recipe.remove("views");
        let recipe = match &self.recipe {
            Some(recipe) => PathBuf::from(recipe),
            None => written(&recipe, folder)?,
        };
        let mut list = String::from("id,category,split\n");
        for row in rows {
            let [name, category] = [row.id.name(), &row.category].map(quoted);
            writeln!(list, "{name},{category},{}", MeshData::SPLIT)?;
        }
        let list_file = folder.join("rows.csv");
        fs::write(&list_file, list).with_context(|| format!("cannot write {}", list_file.display()))?;
        let layout = dataset.manifest().source.layout.clone();
        let layout = LAYOUTS.contains(&layout.as_str()).then_some(layout);
        let layout = layout
            .iter()
            .flat_map(|name| [OsStr::new("--layout"), OsStr::new(name)]);
        let splits = [OsStr::new("--splits"), list_file.as_os_str()];
        let arguments = splits
            .into_iter()
            .chain(layout)
            .chain(self.view_arguments(&recipe));
        tap_build::build(meshes, out, arguments)?;
        let ids = rows.iter().map(|row| row.id.clone()).collect();
        Ok((ids, ViewSubject::Mesh))
    }

    /// Poses for rows whose meshes are not there: those of a cloud of small triangles, one for each point.
    fn draw_stand_ins(
        &self,
        run: &Path,
        rows: &[Sample],
        folder: &Path,
        out: &Path,
    ) -> anyhow::Result<(Vec<ObjectId>, ViewSubject)> {
        let clouds = folder.join("clouds");
        let of_class = clouds.join(STAND_INS);
        fs::create_dir_all(&of_class).with_context(|| format!("cannot create {}", of_class.display()))?;
        let mut ids = Vec::new();
        for (number, row) in rows.iter().enumerate() {
            let name = format!("{number:06}");
            let file = of_class.join(format!("{name}.obj"));
            fs::write(&file, triangles(&row.points)?)
                .with_context(|| format!("cannot write {}", file.display()))?;
            ids.push(ObjectId::try_new(STAND_INS, &name)?);
        }
        let (recipe, has_common_frame) = if let Some(recipe) = &self.recipe {
            (PathBuf::from(recipe), false)
        } else {
            let recipe = recipe_of_run(run)?;
            let framing = recipe.get("render").and_then(|render| render.get("framing"));
            let has_common_frame = framing.and_then(Value::as_str) == Some("sphere");
            (written(&recipe, folder)?, has_common_frame)
        };
        let arguments = ["--split-fractions", "1,0", "--layout", "folders", "--up", "y"];
        let sampling = ["--sampler", "uniform", "--num-points", "256"];
        let arguments = arguments.into_iter().chain(sampling).map(OsStr::new);
        tap_build::build(&clouds, out, arguments.chain(self.view_arguments(&recipe)))?;
        Ok((ids, ViewSubject::Points { has_common_frame }))
    }

    /// The recipe, and how views are seen.
    fn view_arguments<'a>(&'a self, recipe: &'a Path) -> impl Iterator<Item = &'a OsStr> {
        let flags = [("--rig", &self.rig), ("--lighting", &self.lighting)];
        let flags = flags.into_iter().flat_map(|(flag, value)| {
            let value = value.iter();
            value.flat_map(move |value| [OsStr::new(flag), OsStr::new(value)])
        });
        [OsStr::new("--config"), recipe.as_os_str()]
            .into_iter()
            .chain(flags)
    }
}

fn temporary_folder() -> anyhow::Result<TempDir> {
    tempfile::tempdir().context("cannot make a temporary folder")
}

/// A cell of a CSV file.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// A mesh as OBJ with a triangle about each point, turned from point to point so that each side sees some of them.
fn triangles(points: &[[f32; 3]]) -> anyhow::Result<String> {
    let mut obj = String::new();
    for (number, [x, y, z]) in points.iter().enumerate() {
        let r = POINT_RADIUS;
        let corners = match number % 3 {
            0 => [[0.0, r, 0.0], [-r, -r, 0.0], [r, -r, 0.0]],
            1 => [[0.0, 0.0, r], [0.0, -r, -r], [0.0, r, -r]],
            _ => [[r, 0.0, 0.0], [-r, 0.0, -r], [-r, 0.0, r]],
        };
        for [dx, dy, dz] in corners {
            writeln!(obj, "v {} {} {}", x + dx, y + dy, z + dz)?;
        }
        let first = 3 * number + 1;
        writeln!(obj, "f {first} {} {}", first + 1, first + 2)?;
    }
    Ok(obj)
}

/// The recipe of the data set that a run was trained on.
fn recipe_of_run(run: &Path) -> anyhow::Result<Table> {
    let request = Request::read(run)?;
    let data = request.and_then(|request| request.data).with_context(|| {
        format!(
            "the run does not say where its data is; pass --recipe: {}",
            run.display()
        )
    })?;
    let dataset = Dataset::open(Path::new(&data))
        .context("the recipe of the run's data set cannot be read; pass --recipe")?;
    recipe_of(&dataset)
        .with_context(|| format!("the run's data set was not built from meshes; pass --recipe: {data}"))
}

/// The recipe of a data set that was built from meshes; it leaves out no object.
fn recipe_of(dataset: &Dataset) -> Option<Table> {
    let recipe = Value::try_from(&dataset.manifest().recipe).ok()?;
    let Value::Table(mut recipe) = recipe else {
        return None;
    };
    recipe.remove("min_coverage");
    recipe.contains_key("render").then_some(recipe)
}

/// A recipe as a file in `folder`.
fn written(recipe: &Table, folder: &Path) -> anyhow::Result<PathBuf> {
    let file = folder.join("recipe.toml");
    fs::write(&file, toml::to_string(recipe)?).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}
