//! A pre-training method that the crate does not know: every token tells where it lies.
//! `cargo run -p tap-train --example own_method` pre-trains by it on a few boxes, balls and cones.

#[path = "../tests/shape/mod.rs"]
mod shape;
#[path = "../tests/small/mod.rs"]
mod small;

use serde::{Deserialize, Serialize};
use tap_train::prelude::*;
use tch::{Kind, nn, nn::Module as _};

/// The table `[method]`, without its `kind`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    weight: f64,
}

#[derive(Debug)]
struct Locate(Box<dyn Encoder>, nn::Linear, Settings);

impl Loss for Locate {
    fn normalizer(&self, batch: &Batch) -> Sums {
        Sums::default().with("position", &[batch.len() as f64])
    }

    fn terms(&self, batch: &Batch, mode: Mode) -> Vec<Term> {
        let tokens = self.0.tokens(&batch.cloud, mode);
        let error = (self.1.forward(&tokens.features) - tokens.centers).square();
        vec![Term::new("position", self.2.weight, error.sum(Kind::Float))]
    }
}

impl Method for Locate {
    fn evaluate(&self, batch: &Batch, sums: &mut Sums) {
        let error = self.terms(batch, Mode::EVAL)[0].sum.double_value(&[]);
        sums.add("position", &[error, batch.len() as f64]);
    }

    fn scalars(&self, sums: &Sums) -> Scalars {
        Scalars::default().with("loss", sums.mean("position"))
    }
}

/// What the method is called, and how it is built.
#[derive(Debug)]
struct LocateKind;

impl MethodKind for LocateKind {
    fn name(&self) -> &str {
        "locate"
    }

    fn plan(&self, config: &Config) -> Result<MethodPlan, TrainError> {
        plan_of::<Settings>(config)
    }

    fn build(&self, vs: &nn::Path<'_>, plan: &Plan) -> Result<Box<dyn Method>, TrainError> {
        let encoder = plan.encoder.build(&(vs / "encoder"));
        let channels = encoder.token_channels();
        let head = nn::linear(vs / "head", channels, 3, nn::LinearConfig::default());
        Ok(Box::new(Locate(encoder, head, settings(plan)?)))
    }
}

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    shape::write(&data, 3, 16, 96);
    let method = "method={kind='locate',weight=2.0}";
    let config = small::config(&[method, "pretrain.steps=40"], &["pretrain.learning_rate=5e-3"]);
    let options = small::options(&data, folder.path().join("run"), Existing::Refuse, 1);
    let (result, losses) = small::run_with(&LocateKind, &config, &options, u64::MAX);
    let measured = result.expect("it comes to its end").get("validation_loss");
    assert!(measured < losses[0].1 / 4.0, "{measured}: {losses:?}");
}
