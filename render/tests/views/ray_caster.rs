//! Views against an independent ray caster: a ray through the center of each pixel, intersected with each triangle in
//! double precision, from the mesh and the view's matrices alone.

use glam::{DMat4, DVec3, DVec4};
use tap_render::import::{MeshFormat, NoAssets, import_mesh};
use tap_render::{
    BackendChoice, Channels, Mesh, ObjectFromMesh, RenderRecipe, Renderer, RendererOptions, View,
};

use crate::{PROJECTIONS, centered, shape};

/// A surface point along a ray.
struct Hit {
    /// Distance from the eye's plane.
    depth: f64,
    normal_in_view: DVec3,
    /// Of the ray, in view space.
    direction: DVec3,
}

struct Caster {
    triangles: Vec<[DVec3; 3]>,
    view_from_object: DMat4,
    object_from_clip: DMat4,
}

impl Caster {
    fn new(mesh: &Mesh, object_from_mesh: &ObjectFromMesh, view: &View) -> Self {
        let local = object_from_mesh.local_matrix(mesh).as_dmat4();
        let view_from_object = view.matrices.view_from_object.as_dmat4();
        Self {
            triangles: mesh
                .corners()
                .map(|corners| corners.map(|corner| local.transform_point3(corner.as_dvec3())))
                .collect(),
            view_from_object,
            object_from_clip: (view.matrices.clip_from_view.as_dmat4() * view_from_object).inverse(),
        }
    }

    fn cast(&self, x: u32, y: u32, size_px: u32) -> Option<Hit> {
        let ndc = |pixel: u32| (f64::from(pixel) + 0.5) / f64::from(size_px) * 2.0 - 1.0;
        let at = |depth: f64| {
            let point = self.object_from_clip * DVec4::new(ndc(x), -ndc(y), depth, 1.0);
            point.truncate() / point.w
        };
        let (near, far) = (at(0.0), at(1.0));
        let direction = far - near;
        let hits = self.triangles.iter().filter_map(|[a, b, c]| {
            let (ab, ac) = (b - a, c - a);
            let across = direction.cross(ac);
            let determinant = ab.dot(across);
            let start = near - a;
            let u = start.dot(across) / determinant;
            let turned = start.cross(ab);
            let v = direction.dot(turned) / determinant;
            let t = ac.dot(turned) / determinant;
            // A determinant of zero makes none of these true.
            (u >= 0.0 && v >= 0.0 && u + v <= 1.0 && (0.0..=1.0).contains(&t)).then(|| (t, ab.cross(ac)))
        });
        let (t, normal) = hits.min_by(|(a, _), (b, _)| a.total_cmp(b))?;
        let in_view = self.view_from_object.transform_point3(near + direction * t);
        Some(Hit {
            depth: -in_view.z,
            normal_in_view: self.view_from_object.transform_vector3(normal).normalize(),
            direction: self.view_from_object.transform_vector3(direction).normalize(),
        })
    }
}

/// Pixels that were compared, and those that differ.
#[derive(Default)]
struct Tally {
    interior: usize,
    wrong_color: usize,
    wrong_depth: usize,
    holes: usize,
}

fn compare(mesh: &Mesh, object_from_mesh: &ObjectFromMesh, recipe: &RenderRecipe, tally: &mut Tally) {
    let mut renderer = Renderer::try_new(&RendererOptions {
        backend: BackendChoice::Cpu,
        ..RendererOptions::default()
    })
    .unwrap();
    let size = recipe.size_px;
    for view in renderer
        .render(mesh, object_from_mesh, recipe)
        .unwrap()
        .iter()
        .step_by(5)
    {
        let caster = Caster::new(mesh, object_from_mesh, view);
        let hits: Vec<Option<Hit>> = (0..size * size)
            .map(|i| caster.cast(i % size, i / size, size))
            .collect();
        let (gray, depth) = (
            view.color.as_ref().unwrap().gray().unwrap(),
            view.depth.as_ref().unwrap(),
        );
        let mask = view.mask.as_ref().unwrap();
        for (x, y) in (1..size - 1).flat_map(|y| (1..size - 1).map(move |x| (x, y))) {
            let index = |dx: u32, dy: u32| ((y + dy - 1) * size + x + dx - 1) as usize;
            let around: Vec<_> = (0..9).map(|k| &hits[index(k % 3, k / 3)]).collect();
            // Near the silhouette a sample may hit what the center misses.
            let Some(hits) = around.into_iter().map(Option::as_ref).collect::<Option<Vec<_>>>() else {
                continue;
            };
            tally.holes += usize::from(!mask.is_covered(x, y));
            let here = hits[4];
            let is_bent = |other: &&Hit| here.normal_in_view.dot(other.normal_in_view).abs() < 0.999;
            // Opposite neighbors differ by opposite amounts, or there is a depth step between them.
            let is_step = |k: usize| (hits[k].depth + hits[8 - k].depth - 2.0 * here.depth).abs() > 1e-3;
            let is_interior = !hits.iter().any(is_bent) && !(0..4).any(is_step);
            if !is_interior {
                continue;
            }
            tally.interior += 1;
            let value = 255.0 * (0.3 + 0.6 * here.normal_in_view.dot(here.direction).abs());
            tally.wrong_color += usize::from((f64::from(gray[index(1, 1)]) - value).abs() > 2.0);
            tally.wrong_depth += usize::from((f64::from(depth[index(1, 1)]) - here.depth).abs() > 1e-3);
        }
    }
}

fn assert_right(name: &str, tally: &Tally) {
    let Tally {
        interior,
        wrong_color,
        wrong_depth,
        holes,
    } = *tally;
    assert!(interior > 500, "{name}: only {interior} pixels were compared");
    assert!(
        wrong_color * 200 <= interior,
        "{name}: {wrong_color} of {interior} colors are off"
    );
    assert!(
        wrong_depth * 200 <= interior,
        "{name}: {wrong_depth} of {interior} depths are off"
    );
    assert_eq!(holes, 0, "{name}: the mask has holes");
}

fn recipes(size_px: u32) -> impl Iterator<Item = RenderRecipe> {
    PROJECTIONS
        .into_iter()
        .zip([1, 4])
        .map(move |(projection, samples)| RenderRecipe {
            size_px,
            projection,
            samples,
            channels: Channels::ALL,
            ..RenderRecipe::default()
        })
}

#[test]
fn rays_find_the_same_surface() {
    for (name, mesh) in [
        ("axes", shape::axes()),
        ("torus", shape::torus(14, 0.4)),
        ("bumpy", shape::bumpy(20)),
    ] {
        let mut tally = Tally::default();
        recipes(96).for_each(|recipe| compare(&mesh, &centered(&mesh), &recipe, &mut tally));
        assert_right(name, &tally);
    }
}

/// Of the folder `TAP_REAL_DATA`, if it is set.
#[test]
fn rays_find_the_same_surface_of_real_meshes() {
    let Some(folder) = std::env::var_os("TAP_REAL_DATA") else {
        eprintln!("skipped: TAP_REAL_DATA is not set");
        return;
    };
    let folder = std::path::Path::new(&folder).join("meshes");
    let mut categories: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    categories.sort();
    let mut tally = Tally::default();
    for category in categories {
        let mut files: Vec<_> = std::fs::read_dir(&category)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "glb" || extension == "obj")
            })
            .collect();
        files.sort();
        let path = &files[0];
        let format = MeshFormat::from_extension(path.extension().unwrap().to_str().unwrap()).unwrap();
        let mesh = import_mesh(format, &std::fs::read(path).unwrap(), &NoAssets).unwrap();
        recipes(96).for_each(|recipe| compare(&mesh, &centered(&mesh), &recipe, &mut tally));
    }
    assert_right("real meshes", &tally);
}
