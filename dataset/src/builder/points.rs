//! Builds without views: an object becomes a row in one stage, on the workers. No device is opened.

use std::convert::Infallible;

use tap_render::RenderError;

use super::timing::Stage;
use super::{BuildJob, Outcome, crashed, encode, prepare};
use crate::error::{DatasetError, Result};
use crate::pipeline::{Job, Reporter, Step};

/// A [`BuildJob`] without views.
pub(super) struct PointsJob<'a>(pub(super) &'a BuildJob<'a>);

impl Job for PointsJob<'_> {
    type Prepared = Infallible;
    type Rendered = Infallible;
    type Output = Outcome;
    /// That of builds with views; there is none.
    type Event = RenderError;
    type Error = DatasetError;

    fn num_items(&self) -> usize {
        self.0.objects.len()
    }

    fn size_bytes(&self, item: usize) -> u64 {
        self.0.size_bytes(item)
    }

    fn prepare(&self, item: usize, _: &Reporter<'_, Self>) -> Result<Step<Infallible, Outcome>> {
        let BuildJob {
            source,
            recipe,
            max_mesh_bytes,
            clock,
            ..
        } = *self.0;
        if let Err(skip) = self.0.require_tried(item) {
            return Ok(Step::Done(Err(skip)));
        }
        let object = self.0.object(item);
        let sampled = prepare::sample(
            source,
            &object,
            &|| self.0.read(item),
            recipe,
            max_mesh_bytes,
            clock,
        );
        let row = |(_, _, sampled)| {
            let row = clock.time(Stage::Encode, || {
                encode::to_row(source, &object, sampled, recipe.row_layout().columns)
            });
            Box::new(row)
        };
        Ok(Step::Done(sampled.map(row)))
    }

    fn finish(&self, _: usize, prepared: Infallible, _: Infallible) -> Result<Outcome> {
        match prepared {}
    }

    fn panicked(&self, _: usize, message: String) -> Result<Outcome> {
        Ok(Err(crashed(message, None)))
    }
}
