//! A downstream task that the crate does not know: how tall an object is, by regression.

#[path = "../tests/shape/mod.rs"]
mod shape;
#[path = "../tests/small/mod.rs"]
mod small;

use tap_train::prelude::*;
use tch::{Kind, Tensor, nn, nn::Module as _};

fn height(xyz: &Tensor) -> Tensor {
    (xyz.amax(1, false) - xyz.amin(1, false)).select(1, 1)
}

#[derive(Debug)]
struct Measure(Box<dyn Encoder>, nn::Linear);

impl Measure {
    fn answer(&self, batch: &Batch, mode: Mode) -> Tensor {
        let feature = self.0.global_feature(&batch.cloud, mode.of_encoder());
        self.1.forward(&feature).squeeze_dim(1)
    }
}

impl Loss for Measure {
    fn normalizer(&self, batch: &Batch) -> Sums {
        Sums::default().with("height", &[batch.len() as f64])
    }

    fn terms(&self, batch: &Batch, mode: Mode) -> Vec<Term> {
        let error = self.answer(batch, mode) - height(&batch.cloud.xyz);
        vec![Term::new("height", 1.0, error.square().sum(Kind::Float))]
    }
}

impl Task for Measure {
    type Score = Scalars;
    const NAME: &'static str = "measure";

    fn build(plan: &Plan, _data: &OpenData, store: &nn::VarStore) -> Result<Self, TrainError> {
        let encoder = plan.encoder.build(&(store.root() / "encoder"));
        let channels = encoder.global_channels();
        let head = nn::linear(store.root() / "head", channels, 1, nn::LinearConfig::default());
        Ok(Self(encoder, head))
    }

    fn predict(&self, batch: &Batch) -> Tensor {
        self.answer(batch, Mode::EVAL)
    }

    fn score(&self, batch: &CpuBatch, answers: &Tensor, sums: &mut Sums) -> Result<(), TrainError> {
        let points = Tensor::from_slice(&batch.points).view([batch.len() as i64, -1, 3]);
        let error = (answers - height(&points)).abs().sum(Kind::Double);
        sums.add("error", &[error.double_value(&[]), batch.len() as f64]);
        Ok(())
    }

    fn finish(&self, sums: &Sums) -> Scalars {
        Scalars::default().with("mean_error", sums.mean("error"))
    }

    fn scalars(score: &Scalars) -> Scalars {
        score.clone()
    }
}

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    shape::write(&data, 6, 16, 96);
    let config = small::config(&["finetune={batch_size=6,steps=100,learning_rate=1e-2}"], &[]);
    let options = small::options(&data, folder.path().join("run"), Existing::Refuse, 1);
    let (mut losses, cancel) = (Vec::new(), std::sync::atomic::AtomicBool::new(false));
    let mut on_event = |event: TrainEvent| losses.extend(event.step_loss());
    let result = finetune::<Measure>(&config, &options, 0, None, &cancel, &mut on_event);
    let score = result.expect("it trains").expect("it comes to its end").score;
    assert!(score.get("mean_error").is_some(), "{score:?}");
    assert!(losses[99] < losses[0] / 10.0, "{losses:?}");
}
