//! TAP around a backbone that this crate does not know: the nearest points around each center go through a small MLP, and
//! the largest response is the token. `cargo run -p tap-train --example own_backbone`.

#[path = "../tests/shape/mod.rs"]
mod shape;
#[path = "../tests/small/mod.rs"]
mod small;

use tap_train::config::Task;
use tap_train::data::collator::ViewSampling;
use tap_train::method::tap::{draw_views, tap_config};
use tap_train::model::{Tap, loss::photograph_loss};
use tap_train::prelude::*;
use tap_train::{ops, optim::AdamW, task::train_batches};
use tch::{Device, Tensor, nn, nn::Module as _, no_grad};

#[derive(Debug)]
struct Patches(nn::Linear, nn::Linear);

impl Patches {
    fn new(vs: &nn::Path<'_>) -> Self {
        let layer = |name, input| nn::linear(vs / name, input, 64, nn::LinearConfig::default());
        Self(layer("hidden", 6), layer("output", 64))
    }
}

impl Encoder for Patches {
    fn tokens(&self, cloud: &Cloud, _mode: Mode) -> Tokens {
        // Coordinates carry no gradient, so neither do searches.
        let (centers, groups) = no_grad(|| {
            let centers = ops::gather(&cloud.xyz, &ops::farthest_points(&cloud.xyz, 24));
            let neighbors = ops::gather(&cloud.xyz, &ops::nearest(&cloud.xyz, &centers, 12));
            let repeated = centers.unsqueeze(2).expand_as(&neighbors);
            (centers, Tensor::cat(&[&neighbors - &repeated, repeated], 3))
        });
        let features = self.1.forward(&self.0.forward(&groups).relu()).amax(2, false);
        Tokens { features, centers }
    }

    fn token_channels(&self) -> i64 {
        64
    }

    fn global_feature(&self, cloud: &Cloud, mode: Mode) -> Tensor {
        self.tokens(cloud, mode).features.amax(1, false)
    }

    fn global_channels(&self) -> i64 {
        64
    }
}

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    shape::write(folder.path(), 4, 16, 96);
    let config = small::config(&["pretrain.rotate_y=false"], &[]);
    let data = OpenData::open(folder.path()).expect("it was just written");
    let plan = data.plan(None, &config, Task::Pretrain, 0, "none");
    let (plan, rows) = plan.expect("the data fits");
    let batches =
        train_batches(&plan, std::sync::Arc::new(rows), ViewSampling::Random(2)).expect("there are rows");
    let networks = tap_config(&plan).expect("it is a plan of TAP");
    let vs = nn::VarStore::new(Device::Cpu);
    // The weights belong under `encoder`: that is where fine-tuning and export look for them.
    let encoder = Box::new(Patches::new(&(vs.root() / "encoder")));
    let tap = Tap::with_encoder(&vs.root(), encoder, &networks.photograph, &networks.decoder);
    let mut optimizer = AdamW::new(plan.phase.optimizer.clone(), vs.variables());
    let mut losses = Vec::new();
    for step in 0..60 {
        let batch = batches.batch(step).expect("rows are read");
        let batch = batch.to_tensors(Device::Cpu);
        let views = batch.views.as_ref().expect("views were asked for");
        let images = draw_views(&tap, &batch, Mode::TRAIN);
        let loss = photograph_loss(&images, &views.images, &views.masks, 20.0, 1.0).total;
        optimizer.step(&loss, 5e-3).expect("the gradient is finite");
        losses.push(loss.double_value(&[]));
    }
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&losses[50..]) < 0.8 * mean(&losses[..10]), "{losses:?}");
}
