//! Point-MAE (`docs/method.md`, "Point-MAE"): encode the visible groups of a cloud, reconstruct the points of the masked
//! ones.

use std::rc::Rc;

use tch::{Tensor, nn};

use super::block::{Blocks, PositionEmbedding, rising_drop_path};
use super::encoder::point_mae::{Groups, POSITION_HIDDEN, PointMae};
use super::encoder::{Cloud, Encoder, PointMaeConfig};
use super::group_mask::GroupMask;
use super::layer::{Init, LayerNorm, Linear, SMALL_DEVIATION, normal};
use super::mode::Mode;
use crate::ops;

/// Sizes of the autoencoder. The decoder is as wide as the encoder and has as many heads.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskedAutoencoderConfig {
    /// The encoder to pre-train.
    pub encoder: PointMaeConfig,
    /// Blocks of the decoder.
    pub decoder_blocks: i64,
    /// Probability to drop a residual branch in the decoder's last block; it rises linearly from 0 in the first.
    pub decoder_drop_path: f64,
}

/// The model. Field names equal checkpoint keys, which write `MAE` in capitals.
#[derive(Debug)]
pub struct MaskedAutoencoder {
    mae_encoder: Rc<PointMae>,
    mask_token: Tensor,
    decoder_pos_embed: PositionEmbedding,
    mae_decoder: Decoder,
    increase_dim: Linear,
}

#[derive(Debug)]
struct Decoder {
    blocks: Blocks,
    norm: LayerNorm,
}

impl MaskedAutoencoder {
    /// What the names of the encoder's weights begin with.
    pub const ENCODER_PREFIX: &'static str = "MAE_encoder.";

    /// A model with fresh weights at the root `vs`: `MAE_encoder.*`, `MAE_decoder.*`, and the layers around them.
    #[must_use]
    pub fn new(vs: &nn::Path<'_>, config: &MaskedAutoencoderConfig) -> Self {
        let encoder = &config.encoder;
        let (channels, decoder) = (encoder.channels, vs / "MAE_decoder");
        Self {
            mae_encoder: Rc::new(PointMae::new(&(vs / "MAE_encoder"), encoder)),
            mask_token: normal(vs, "mask_token", &[1, 1, channels], SMALL_DEVIATION),
            decoder_pos_embed: PositionEmbedding::new(
                &(vs / "decoder_pos_embed"),
                POSITION_HIDDEN,
                channels,
                Init::Uniform,
            ),
            mae_decoder: Decoder {
                blocks: Blocks::new(
                    &(&decoder / "blocks"),
                    encoder.block_sizes(),
                    &rising_drop_path(config.decoder_blocks, config.decoder_drop_path),
                    Init::Xavier,
                ),
                norm: LayerNorm::new(&decoder / "norm", channels),
            },
            increase_dim: Linear::pointwise(
                vs / "increase_dim" / 0,
                channels,
                3 * encoder.num_neighbors,
                1,
                true,
            ),
        }
    }

    /// The encoder, for whoever reads its tokens too.
    #[must_use]
    pub fn encoder(&self) -> Rc<dyn Encoder> {
        Rc::clone(&self.mae_encoder) as Rc<dyn Encoder>
    }

    /// The groups that clouds are divided into.
    #[must_use]
    pub fn groups(&self, cloud: &Cloud) -> Groups {
        self.mae_encoder.groups(cloud)
    }

    /// Encodes the visible groups.
    ///
    /// Parity: every group goes through the small `PointNet`, the masked ones too, whose points are in the statistics of its
    /// batch norms. Their tokens are dropped behind it.
    ///
    /// # Shapes
    /// - returns B,V,C
    pub fn encode(&self, groups: &Groups, mask: &GroupMask, mode: Mode) -> Tensor {
        let visible = ops::gather(&self.mae_encoder.embed(groups, mode), &mask.visible);
        let centers = ops::gather(&groups.centers, &mask.visible);
        self.mae_encoder.encode(&visible, &centers, mode)
    }

    /// The points of the masked groups, relative to their centers, from the visible groups and the centers.
    ///
    /// # Shapes
    /// - returns B,M,K,3
    pub fn reconstruct(&self, groups: &Groups, mask: &GroupMask, mode: Mode) -> Tensor {
        let visible = self.encode(groups, mask, mode);
        let (batch, num_masked) = (mask.masked.size()[0], mask.masked.size()[1]);
        let masked = self.mask_token.expand([batch, num_masked, -1], false);
        let order = Tensor::cat(&[&mask.visible, &mask.masked], 1);
        let position = self
            .decoder_pos_embed
            .forward(&ops::gather(&groups.centers, &order), mode);
        let tokens = Tensor::cat(&[&visible, &masked], 1);
        let decoder = &self.mae_decoder;
        let x = decoder.blocks.forward(&tokens, &position, mode);
        let x = decoder.norm.forward(&x.narrow(1, visible.size()[1], num_masked));
        self.increase_dim
            .forward(&x, mode)
            .view([batch, num_masked, -1, 3])
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    fn model(vs: &nn::VarStore) -> MaskedAutoencoder {
        let config = MaskedAutoencoderConfig {
            encoder: PointMaeConfig {
                num_groups: 8,
                num_neighbors: 6,
                ..PointMaeConfig::mini()
            },
            decoder_blocks: 2,
            decoder_drop_path: 0.1,
        };
        MaskedAutoencoder::new(&vs.root(), &config)
    }

    fn cloud() -> Cloud {
        let xyz = Tensor::randn([2, 96, 3], (Kind::Float, Device::Cpu)) * 0.4;
        Cloud {
            features: xyz.transpose(1, 2),
            xyz,
        }
    }

    #[test]
    fn what_is_masked_is_hidden_and_where_it_lies_is_known() {
        tch::manual_seed(0);
        let vs = nn::VarStore::new(Device::Cpu);
        let model = model(&vs);
        let groups = model.groups(&cloud());
        let flags = Tensor::from_slice(&[0_u8, 1, 1, 0, 1, 0, 1, 1]).repeat([2, 1]);
        let mask = GroupMask::from_flags(&flags, 5);
        let run = |groups: &Groups| model.reconstruct(groups, &mask, Mode::EVAL);
        let expected = run(&groups);
        assert_eq!(expected.size(), [2, 5, 6, 3], "the points of the masked groups");
        let hidden = groups
            .points
            .masked_fill(&flags.view([2, 8, 1, 1]).to_kind(Kind::Bool), 0.3);
        let other = |centers: &Tensor, points: &Tensor| {
            run(&Groups {
                index: groups.index.shallow_clone(),
                centers: centers.shallow_clone(),
                points: points.shallow_clone(),
                neighbors: groups.neighbors.shallow_clone(),
            })
        };
        assert!(
            other(&groups.centers, &hidden).allclose(&expected, 1e-6, 1e-6, false),
            "the points of masked groups change nothing"
        );
        assert!(
            !other(&groups.centers, &(&groups.points * 0.9)).allclose(&expected, 1e-4, 1e-5, false),
            "those of visible groups do"
        );
        assert!(
            !other(&(&groups.centers * 0.9), &groups.points).allclose(&expected, 1e-4, 1e-5, false),
            "and so do the centers"
        );
    }

    #[test]
    fn gradients_reach_every_weight() {
        tch::manual_seed(1);
        let vs = nn::VarStore::new(Device::Cpu);
        let model = model(&vs);
        let groups = model.groups(&cloud());
        let mask = GroupMask::from_flags(
            &Tensor::from_slice(&[1_u8, 0, 1, 0, 1, 0, 1, 1]).repeat([2, 1]),
            5,
        );
        model
            .reconstruct(&groups, &mask, Mode::TRAIN)
            .square()
            .mean(Kind::Float)
            .backward();
        for (name, parameter) in vs.variables().into_iter().filter(|(_, v)| v.requires_grad()) {
            let gradient = parameter.grad();
            assert!(
                gradient.defined() && gradient.isfinite().all().int64_value(&[]) == 1,
                "gradient of {name}"
            );
        }
    }
}
