//! Folders of views through the library: rendered, resumed, cancelled, relit, refused.
#![cfg(feature = "build")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tap_dataset::view_folder::{
    Existing, Input, Outcome, Output, RelightViewsOptions, Request, SearchNote, ViewFolderError,
    ViewFolderEvent, ViewOptions, ViewRecipe, ViewsFile, find_meshes, find_views, relight, render,
};
use tap_render::{BackendChoice, Lighting, RenderRecipe, RendererOptions, UpAxis};

const TETRAHEDRON: &str = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n";

fn meshes(dir: &Path, num_meshes: usize) -> Vec<Input> {
    let folder = dir.join("meshes");
    fs::create_dir_all(&folder).unwrap();
    for k in 0..num_meshes {
        fs::write(folder.join(format!("{k:02}.obj")), TETRAHEDRON).unwrap();
    }
    let request = Request {
        meshes: &[folder],
        list: None,
        root: None,
    };
    find_meshes(&request, &mut io::empty(), &mut |_| {}).unwrap()
}

fn recipe() -> ViewRecipe {
    ViewRecipe {
        render: RenderRecipe {
            size_px: 16,
            channels: "color,mask,depth,normal".parse().unwrap(),
            ..RenderRecipe::default()
        },
        up: UpAxis::default(),
        output: Output::default(),
        points: None,
    }
}

fn options(out: PathBuf, existing: Existing) -> ViewOptions {
    ViewOptions {
        out,
        existing,
        recipe_files: Vec::new(),
        workers: 3,
        renderer: RendererOptions {
            backend: BackendChoice::Cpu,
            ..RendererOptions::default()
        },
    }
}

/// Renders, and returns whether it is complete and a letter for each outcome: w(ritten), u(nchanged), f(ailed).
fn outcomes(
    inputs: &[Input],
    recipe: &ViewRecipe,
    options: &ViewOptions,
    cancel: &AtomicBool,
    cancel_after: usize,
) -> Result<(bool, String), ViewFolderError> {
    let mut letters = String::new();
    let is_complete = render(inputs, recipe, options, cancel, &mut |event| {
        if let ViewFolderEvent::Done { input, outcome } = event {
            assert_eq!(*input, inputs[letters.len()], "inputs finish in order");
            letters.push(match outcome {
                Outcome::Written(_) => 'w',
                Outcome::Unchanged => 'u',
                Outcome::Failed(_) => 'f',
            });
        }
        if letters.len() == cancel_after {
            cancel.store(true, Ordering::Relaxed);
        }
    })?;
    Ok((is_complete, letters))
}

#[test]
fn a_cancelled_run_is_resumed_and_a_bad_mesh_stops_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = meshes(dir.path(), 30);
    fs::write(&inputs[4].path, "f 1 2 3\n").unwrap();
    let out = dir.path().join("views");
    let run = |existing, cancel_after| {
        outcomes(
            &inputs,
            &recipe(),
            &options(out.clone(), existing),
            &AtomicBool::new(false),
            cancel_after,
        )
    };
    assert_eq!(run(Existing::Refuse, 5).unwrap(), (false, "wwwwf".to_owned()));
    let error = run(Existing::Refuse, usize::MAX).unwrap_err();
    assert!(matches!(error, ViewFolderError::Exists { .. }), "{error}");
    let (is_complete, letters) = run(Existing::Resume, usize::MAX).unwrap();
    assert!(is_complete && letters.starts_with("uuuuf"), "{letters}");
    assert!(letters.ends_with('w'), "some were left to render: {letters}");
    let (_, letters) = run(Existing::Resume, usize::MAX).unwrap();
    assert_eq!(letters, format!("uuuuf{}", "u".repeat(25)));
}

#[test]
fn views_are_relit() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = meshes(dir.path(), 3);
    let out = dir.path().join("views");
    let rendered = outcomes(
        &inputs,
        &recipe(),
        &options(out.clone(), Existing::Refuse),
        &AtomicBool::new(false),
        usize::MAX,
    );
    assert_eq!(rendered.unwrap(), (true, "www".to_owned()));
    let views = find_views(&out).unwrap();
    let options = RelightViewsOptions {
        out: dir.path().join("lit"),
        sheet: false,
        force: false,
        workers: 2,
    };
    let mut num_written = 0;
    let is_complete = relight(
        &views,
        &Lighting::hemisphere(),
        &options,
        &AtomicBool::new(false),
        &mut |event| {
            let is_written = matches!(
                event,
                ViewFolderEvent::Done {
                    outcome: Outcome::Written(_),
                    ..
                }
            );
            num_written += usize::from(is_written);
        },
    );
    assert!(is_complete.unwrap());
    assert_eq!(num_written, 3);
    let file = ViewsFile::read(&options.out.join("01")).unwrap();
    assert!(file.is_relit && file.recipe.lighting.normals == Lighting::default().normals);
}

#[test]
fn a_recipe_that_contradicts_itself_is_refused() {
    let mut without_depth = recipe();
    without_depth.points = Some(PathBuf::from("points.npy"));
    without_depth.validate().unwrap();
    without_depth.render.channels.depth = false;
    let error = without_depth.validate().unwrap_err();
    assert!(matches!(error, ViewFolderError::PointsWithoutDepth), "{error}");
    let mut without_color = recipe();
    without_color.output.sheet = true;
    without_color.render.channels.color = false;
    let error = without_color.validate().unwrap_err();
    assert!(matches!(error, ViewFolderError::SheetWithoutColor), "{error}");
}

/// The request decides nothing about a picture: ShapeNet's textures lie beside the folder of the mesh.
#[test]
fn a_mesh_has_its_textures_however_it_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let models = dir.path().join("set/02/id/models");
    let images = dir.path().join("set/02/id/images");
    fs::create_dir_all(&models).unwrap();
    fs::create_dir_all(&images).unwrap();
    let textured = "mtllib m.mtl\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl m\nv 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1/1 3/3 2/2\nf 1/1 2/2 4/3\n";
    fs::write(models.join("model.obj"), textured).unwrap();
    fs::write(models.join("m.mtl"), "newmtl m\nmap_Kd ../images/t.png\n").unwrap();
    let pixels = [[200, 10, 10]; 4];
    fs::write(
        images.join("t.png"),
        tap_dataset::encode_rgb_png(2, &pixels).unwrap(),
    )
    .unwrap();
    let set = dir.path().join("set");
    let requests = [
        set.clone(),
        models.join("model.obj"),
        set.join("*/*/models/model.obj"),
        models.clone(),
    ];
    let recipe = ViewRecipe {
        render: RenderRecipe {
            lighting: Lighting::textured(),
            ..recipe().render
        },
        ..recipe()
    };
    let mut pictures = Vec::new();
    for (request_idx, mesh) in requests.into_iter().enumerate() {
        let request = Request {
            meshes: &[mesh],
            list: None,
            root: None,
        };
        let inputs = find_meshes(&request, &mut io::empty(), &mut |_| {}).unwrap();
        let out = dir.path().join(format!("views {request_idx}"));
        let run = outcomes(
            &inputs,
            &recipe,
            &options(out.clone(), Existing::Refuse),
            &AtomicBool::new(false),
            9,
        );
        assert_eq!(run.unwrap(), (true, "w".to_owned()));
        let folder = out.join(&inputs[0].name);
        assert_eq!(
            ViewsFile::read(&folder).unwrap().warnings,
            [""; 0],
            "{request_idx}"
        );
        pictures.push(fs::read(folder.join("view_001.png")).unwrap());
    }
    assert!(pictures.windows(2).all(|pair| pair[0] == pair[1]), "one picture");
}

#[test]
fn compressed_meshes_long_names_and_unreadable_formats() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("meshes");
    fs::create_dir_all(source.join("__MACOSX")).unwrap();
    let long = "n".repeat(250);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::Write::write_all(&mut encoder, TETRAHEDRON.as_bytes()).unwrap();
    fs::write(source.join("packed.obj.gz"), encoder.finish().unwrap()).unwrap();
    fs::write(source.join(format!("{long}.obj")), TETRAHEDRON).unwrap();
    fs::write(source.join("__MACOSX/._packed.obj"), "").unwrap();
    fs::write(source.join("other.fbx"), "").unwrap();
    let request = Request {
        meshes: &[source],
        list: None,
        root: None,
    };
    let mut unreadable = Vec::new();
    let inputs = find_meshes(&request, &mut io::empty(), &mut |note| {
        if let SearchNote::Unreadable(path) = note {
            unreadable.push(path.file_name().unwrap().to_owned());
        }
    });
    let inputs = inputs.unwrap();
    let names: Vec<&Path> = inputs.iter().map(|input| input.name.as_path()).collect();
    assert_eq!(names, [Path::new(&long), Path::new("packed")]);
    assert_eq!(unreadable, ["other.fbx"]);
    let run = outcomes(
        &inputs,
        &recipe(),
        &options(dir.path().join("views"), Existing::Refuse),
        &AtomicBool::new(false),
        9,
    );
    assert_eq!(run.unwrap(), (true, "ww".to_owned()));
}
