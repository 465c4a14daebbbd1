//! The renderer and the render queue: reproducible bytes, bounded memory, errors instead of panics.

use std::time::Instant;

use glam::DVec3;
use tap_render::{
    AdapterChoice, AdapterKind, BackendChoice, BackendKind, DeviceError, QueueEvent, QueueStage, QueuedJob,
    RecipeError, RenderError, RenderJob, RenderRecipe, Renderer, RendererOptions, View, list_adapters,
    run_render_queue,
};

use crate::{PROJECTIONS, centered, renderer, renderer_with, renderers, shape};

fn bytes(views: &[View]) -> Vec<u8> {
    views
        .iter()
        .flat_map(|view| view.color.as_ref().unwrap().gray().unwrap())
        .copied()
        .collect()
}

#[test]
fn a_large_image_takes_several_passes() {
    let mut renderer = renderer();
    let mesh = shape::axes();
    let mut recipe = RenderRecipe {
        size_px: 1200,
        samples: 1,
        ..RenderRecipe::default()
    };
    let large = renderer.render(&mesh, &centered(&mesh), &recipe).unwrap();
    recipe.size_px = 400;
    let small = renderer.render(&mesh, &centered(&mesh), &recipe).unwrap();
    for (large, small) in large.iter().zip(&small) {
        // The center of each small pixel is the center of the middle one of nine large ones.
        let (large, small) = (
            large.color.as_ref().unwrap().gray().unwrap(),
            small.color.as_ref().unwrap().gray().unwrap(),
        );
        let num_off = (0..400 * 400)
            .filter(|i| small[*i].abs_diff(large[(i / 400 * 3 + 1) * 1200 + i % 400 * 3 + 1]) > 1)
            .count();
        assert!(num_off < 40, "{num_off} pixels are not the same");
    }
}

#[test]
fn device_time_is_reported() {
    let mesh = shape::axes();
    let recipe = RenderRecipe::default();
    let [mut software, mut device] = renderers();
    assert_eq!(device.device_time(), None, "it has drawn nothing yet");
    let begun = Instant::now();
    device.render(&mesh, &centered(&mesh), &recipe).unwrap();
    let elapsed = begun.elapsed();
    let Some(worked) = device.device_time() else {
        eprintln!("skipped: the device has no clock");
        return;
    };
    assert!(
        !worked.is_zero() && worked <= elapsed,
        "{worked:?} of {elapsed:?}"
    );
    software.render(&mesh, &centered(&mesh), &recipe).unwrap();
    assert_eq!(software.device_time(), None, "the CPU is no device");
}

#[test]
fn the_same_bytes_come_whatever_is_in_flight() {
    let meshes = [
        shape::axes(),
        shape::torus(40, 0.3),
        shape::bumpy(60),
        shape::cuboid(DVec3::ONE),
    ];
    let recipe = RenderRecipe::default();
    let mut one = renderer_with(1);
    let expected: Vec<Vec<u8>> = meshes
        .iter()
        .map(|mesh| bytes(&one.render(mesh, &centered(mesh), &recipe).unwrap()))
        .collect();
    let mut many = renderer_with(meshes.len());
    for _ in 0..3 {
        let pending: Vec<_> = meshes
            .iter()
            .map(|mesh| {
                let framed = RenderJob::try_new(mesh, &centered(mesh), &recipe, many.backend_kind()).unwrap();
                many.submit(&framed).unwrap()
            })
            .collect();
        // The last one is finished first.
        for (pending, expected) in pending.into_iter().zip(&expected).rev() {
            assert!(
                bytes(&many.finish(pending).unwrap()) == *expected,
                "not the same images"
            );
        }
    }
}

/// A job that records its stages.
struct RecordingJob {
    framed: RenderJob,
    steps: Vec<QueueStage>,
}

impl QueuedJob for RecordingJob {
    fn job(&self) -> &RenderJob {
        &self.framed
    }

    fn timed<R>(&mut self, step: QueueStage, work: impl FnOnce(&RenderJob) -> R) -> R {
        self.steps.push(step);
        work(&self.framed)
    }
}

#[test]
fn jobs_of_a_failed_device_are_drawn_again() {
    let meshes = [
        shape::axes(),
        shape::torus(40, 0.3),
        shape::bumpy(60),
        shape::cuboid(DVec3::ONE),
    ];
    let recipe = RenderRecipe::default();
    let options = RendererOptions {
        backend: BackendChoice::Wgpu,
        adapter: AdapterChoice::Software,
        max_in_flight: 2,
    };
    for fails in [false, true] {
        let mut renderer = renderer_with(2);
        let recording_job = |mesh| RecordingJob {
            framed: RenderJob::try_new(mesh, &centered(mesh), &recipe, renderer.backend_kind()).unwrap(),
            steps: Vec::new(),
        };
        let recording_jobs: Vec<_> = meshes.iter().map(recording_job).collect();
        // A pending job that nobody waits for: the device refuses the second of two, as if it had failed.
        let unfinished = fails.then(|| renderer.submit(&recording_jobs[0].framed).unwrap());
        let mut coming = recording_jobs.into_iter().enumerate();
        let (mut seen, mut num_failed) = (Vec::new(), 0);
        run_render_queue(
            renderer,
            &options,
            |_| coming.next(),
            |event| match event {
                QueueEvent::Rendered { mesh, views } => seen.push((mesh, bytes(&views))),
                QueueEvent::Failed {
                    mesh: (mesh, _),
                    error,
                } => panic!("mesh {mesh}: {error}"),
                QueueEvent::DeviceFailed { .. } => num_failed += 1,
            },
        )
        .unwrap();
        drop(unfinished);
        assert_eq!(num_failed, u32::from(fails));
        let order: Vec<usize> = seen.iter().map(|((mesh, _), _)| *mesh).collect();
        assert_eq!(order, [0, 1, 2, 3], "in order");
        let mut alone = renderer_with(1);
        for ((mesh, recording_job), images) in seen {
            let expected = alone
                .render(&meshes[mesh], &centered(&meshes[mesh]), &recipe)
                .unwrap();
            assert!(images == bytes(&expected), "not the same images of mesh {mesh}");
            let steps = match (fails, mesh) {
                (true, 0 | 1) => vec![QueueStage::Submit, QueueStage::Draw],
                _ => vec![QueueStage::Submit, QueueStage::Draw, QueueStage::ReadBack],
            };
            assert_eq!(recording_job.steps, steps, "mesh {mesh}");
        }
    }
}

#[test]
fn culling_changes_no_byte() {
    let mut renderer = renderer();
    for mesh in [shape::bumpy(130), shape::torus(100, 0.02)] {
        for samples in [1, 4] {
            for projection in PROJECTIONS {
                let recipe = RenderRecipe {
                    samples,
                    projection,
                    size_px: 96,
                    ..RenderRecipe::default()
                };
                let mut draw = |backend_kind| {
                    let framed = RenderJob::try_new(&mesh, &centered(&mesh), &recipe, backend_kind).unwrap();
                    let pending = renderer.submit(&framed).unwrap();
                    bytes(&renderer.finish(pending).unwrap())
                };
                let (all, culled) = (draw(BackendKind::Gpu), draw(BackendKind::SoftwareDriver));
                assert!(
                    all == culled,
                    "culling changed an image of {} triangles",
                    mesh.triangles().len()
                );
            }
        }
    }
}

#[test]
fn memory_in_flight_is_bounded() {
    let mut renderer = renderer_with(2);
    let mesh = shape::axes();
    let framed = RenderJob::try_new(
        &mesh,
        &centered(&mesh),
        &RenderRecipe::default(),
        BackendKind::Gpu,
    )
    .unwrap();
    let first = renderer.submit(&framed).unwrap();
    let second = renderer.submit(&framed).unwrap();
    let third = renderer.submit(&framed);
    assert!(
        matches!(third, Err(RenderError::TooManyInFlight { limit: 2 })),
        "a third one"
    );
    drop(first);
    let third = renderer.submit(&framed).unwrap();
    let expected = renderer.finish(second).unwrap();
    assert_eq!(renderer.finish(third).unwrap(), expected);
}

#[test]
fn bad_settings_are_errors() {
    let mut renderer = renderer();
    let mesh = shape::axes();
    let recipe = RenderRecipe {
        samples: 5,
        ..RenderRecipe::default()
    };
    let error = renderer.render(&mesh, &centered(&mesh), &recipe).unwrap_err();
    assert!(
        matches!(error, RenderError::Recipe(RecipeError::Samples { samples: 5 })),
        "{error}"
    );
    let options = RendererOptions {
        max_in_flight: 0,
        ..RendererOptions::default()
    };
    assert!(
        matches!(Renderer::try_new(&options), Err(RenderError::ZeroInFlight)),
        "no mesh in flight"
    );
    let adapter = AdapterChoice::Name("no such adapter".to_owned());
    let error = Renderer::try_new(&RendererOptions {
        adapter,
        ..RendererOptions::default()
    })
    .unwrap_err();
    assert!(
        matches!(error, RenderError::Device(DeviceError::NoSuchAdapter { .. })),
        "{error}"
    );
}

#[test]
fn the_software_adapter_is_named() {
    let renderer = renderer();
    assert_eq!(renderer.adapter().kind, AdapterKind::Cpu);
    assert!(list_adapters().contains(renderer.adapter()), "it is in the list");
    assert!(
        renderer.adapter().to_string().contains("CPU"),
        "{}",
        renderer.adapter()
    );
}
