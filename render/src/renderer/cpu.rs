//! `CpuRenderer`: jobs in, views out, on the CPU backend. It pools the visibility buffers.

use std::error::Error as _;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rayon::ThreadPoolBuilder;
use rayon::prelude::*;

use crate::adapter::{AdapterKind, AdapterReport};
use crate::camera::{Pose, ViewMatrices};
use crate::cpu::{VisibilityBuffer, VisibilityPass, draw_view};
use crate::job::RenderJob;
use crate::recipe::RenderRecipe;
use crate::view::View;

/// Draws views on the CPU.
///
/// The output is a function of mesh and recipe alone. It does not depend on the number of threads or on the machine,
/// given IEEE 754 arithmetic.
#[derive(Debug, Clone, Default)]
pub struct CpuRenderer {
    /// Buffers not in use. Allocating new ones for every mesh would take a fifth of the time.
    idle: Arc<Mutex<Vec<VisibilityBuffer>>>,
}

impl CpuRenderer {
    /// The adapter report that outputs record.
    #[must_use]
    pub fn report() -> AdapterReport {
        AdapterReport {
            name: "tap software renderer".to_owned(),
            driver: "tap-render".to_owned(),
            driver_info: env!("CARGO_PKG_VERSION").to_owned(),
            backend: "cpu".to_owned(),
            kind: AdapterKind::Cpu,
        }
    }

    fn borrow_pass(&self, recipe: &RenderRecipe) -> BorrowedPass<'_> {
        let samples = self.idle().pop().unwrap_or_default();
        BorrowedPass {
            renderer: self,
            visibility: VisibilityPass::new(recipe, samples),
        }
    }

    /// Buffers are cleared before use, so those left by a panicked thread are as good as any.
    fn idle(&self) -> MutexGuard<'_, Vec<VisibilityBuffer>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws all views on the calling thread, for callers that draw many meshes in parallel.
    #[must_use]
    pub fn draw(&self, job: &RenderJob) -> Vec<View> {
        let mut borrowed = self.borrow_pass(&job.recipe);
        job.views
            .iter()
            .map(|(pose, matrices)| borrowed.draw_view(job, *pose, matrices))
            .collect()
    }

    /// Draws all views, in parallel on rayon's thread pool where its threads can be started.
    #[must_use]
    pub fn draw_in_parallel(&self, job: &RenderJob) -> Vec<View> {
        if !has_thread_pool() {
            return self.draw(job);
        }
        job.views
            .par_iter()
            .map_init(
                || self.borrow_pass(&job.recipe),
                |borrowed, (pose, matrices)| borrowed.draw_view(job, *pose, matrices),
            )
            .collect()
    }
}

/// Rayon tries to start its threads once, and panics at each use where the system refused them.
fn has_thread_pool() -> bool {
    static HAS_POOL: OnceLock<bool> = OnceLock::new();
    *HAS_POOL.get_or_init(|| match ThreadPoolBuilder::new().build_global() {
        Ok(()) => true,
        Err(error) => {
            let exists_already = error.source().is_none();
            if !exists_already {
                tracing::warn!(%error, "could not start threads for the views of a mesh: they are drawn one by one");
            }
            exists_already
        }
    })
}

/// A [`VisibilityPass`] whose buffer returns to the pool when it is dropped.
struct BorrowedPass<'a> {
    renderer: &'a CpuRenderer,
    visibility: VisibilityPass,
}

impl BorrowedPass<'_> {
    fn draw_view(&mut self, job: &RenderJob, pose: Pose, matrices: &ViewMatrices) -> View {
        let RenderJob {
            recipe,
            scene,
            meshlets,
            supersampling,
            ..
        } = job;
        draw_view(recipe, scene, meshlets, pose, matrices, &mut self.visibility).downsample(*supersampling)
    }
}

impl Drop for BorrowedPass<'_> {
    fn drop(&mut self) {
        self.renderer.idle().push(self.visibility.take_buffer());
    }
}
