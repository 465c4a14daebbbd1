//! Point-M2AE (`docs/method.md`, "Point-M2AE"): a masked autoencoder whose encoder and decoder are hierarchies.

use std::rc::Rc;

use tch::{Kind, Tensor, nn};

use super::block::{Blocks, PositionEmbedding, rising_drop_path};
use super::encoder::point_m2ae::PointM2ae;
use super::encoder::{Cloud, Encoder, Groups, PointM2aeConfig};
use super::group_mask::MultiScaleMask;
use super::layer::{BatchNorm, Init, LayerNorm, Linear, SMALL_DEVIATION, normal};
use super::mode::Mode;
use crate::ops;

/// Sizes of the autoencoder. Each stage of the decoder is as wide as the level of the encoder that it works on.
#[derive(Debug, Clone, PartialEq)]
pub struct HierarchicalAutoencoderConfig {
    /// The encoder to pre-train, of at least two levels.
    pub encoder: PointM2aeConfig,
    /// Blocks of a stage of the decoder.
    pub decoder_blocks: i64,
    /// Probability to drop a residual branch in the decoder's last block; it rises linearly from 0 in the first.
    pub decoder_drop_path: f64,
    /// Numbers that are predicted about each point of a visible group, as I2P-MAE does; 0 is no such head.
    pub feature_channels: i64,
}

/// The model. Field names equal checkpoint keys.
#[derive(Debug)]
pub struct HierarchicalAutoencoder {
    h_encoder: Rc<PointM2ae>,
    mask_token: Tensor,
    h_decoder: Vec<Blocks>,
    decoder_pos_embeds: Vec<PositionEmbedding>,
    token_prop: Vec<TokenPropagation>,
    decoder_norm: LayerNorm,
    rec_head_3d: Linear,
    rec_head_2d: Option<Linear>,
}

/// What the decoder made of a batch.
#[derive(Debug)]
pub struct Decoded {
    /// Normalized tokens of the level of [`HierarchicalAutoencoder::RECONSTRUCTED`], those of all clouds one after the
    /// other, B·G,C.
    pub tokens: Tensor,
    /// The encoder's tokens of the coarsest level, zeros where masked, B,G,C.
    pub coarsest: Tensor,
}

impl HierarchicalAutoencoder {
    /// What the names of the encoder's weights begin with.
    pub const ENCODER_PREFIX: &'static str = "h_encoder.";
    /// The level whose groups are reconstructed: the one above the finest.
    pub const RECONSTRUCTED: usize = 1;

    /// A model with fresh weights at the root `vs`.
    ///
    /// # Panics
    /// Where the encoder has one level.
    #[must_use]
    pub fn new(vs: &nn::Path<'_>, config: &HierarchicalAutoencoderConfig) -> Self {
        let encoder = &config.encoder;
        let levels = &encoder.levels[Self::RECONSTRUCTED..];
        let widths: Vec<i64> = levels.iter().rev().map(|level| level.channels).collect();
        let num_blocks = config.decoder_blocks as usize;
        let drop_path = rising_drop_path(
            config.decoder_blocks * widths.len() as i64,
            config.decoder_drop_path,
        );
        let stages = widths.iter().zip(drop_path.chunks(num_blocks)).enumerate();
        Self {
            h_encoder: Rc::new(PointM2ae::new(&(vs / "h_encoder"), encoder)),
            mask_token: normal(vs, "mask_token", &[1, widths[0]], SMALL_DEVIATION),
            h_decoder: stages
                .map(|(i, (&channels, drop_path))| {
                    Blocks::new(
                        &(vs / "h_decoder" / i / "blocks"),
                        encoder.block_sizes(channels),
                        drop_path,
                        Init::Xavier,
                    )
                })
                .collect(),
            decoder_pos_embeds: widths
                .iter()
                .enumerate()
                .map(|(i, &channels)| {
                    let vs = vs / "decoder_pos_embeds" / i;
                    PositionEmbedding::new(&vs, channels, channels, Init::Uniform)
                })
                .collect(),
            token_prop: widths
                .windows(2)
                .enumerate()
                .map(|(i, pair)| TokenPropagation::new(&(vs / "token_prop" / i), [pair[0], pair[1]]))
                .collect(),
            decoder_norm: LayerNorm::new(vs / "decoder_norm", levels[0].channels),
            rec_head_3d: Linear::pointwise(
                vs / "rec_head_3d",
                levels[0].channels,
                3 * levels[0].num_neighbors,
                1,
                true,
            ),
            rec_head_2d: (config.feature_channels > 0).then(|| {
                let outputs = levels[0].num_neighbors * config.feature_channels;
                Linear::pointwise(vs / "rec_head_2d", levels[0].channels, outputs, 1, true)
            }),
        }
    }

    /// The encoder, for whoever reads its tokens too.
    #[must_use]
    pub fn encoder(&self) -> Rc<dyn Encoder> {
        Rc::clone(&self.h_encoder) as Rc<dyn Encoder>
    }

    /// The groups that clouds are divided into, from fine to coarse.
    #[must_use]
    pub fn groups(&self, cloud: &Cloud) -> Vec<Groups> {
        self.h_encoder.groups(cloud)
    }

    /// The points of the masked groups of the second level, relative to their centers: what is to be reconstructed. Clouds
    /// have different numbers of them; they follow each other.
    ///
    /// # Shapes
    /// - returns M,K,3
    pub fn masked_points(groups: &[Groups], mask: &MultiScaleMask) -> Tensor {
        let points = groups[Self::RECONSTRUCTED].points.flatten(0, 1);
        points.index_select(0, &mask.masked(Self::RECONSTRUCTED))
    }

    /// Which points of a cloud the centers of a level are.
    ///
    /// # Shapes
    /// - returns B,G
    pub fn point_index(groups: &[Groups], level: usize) -> Tensor {
        let coarser = groups[1..=level].iter();
        coarser.fold(groups[0].index.shallow_clone(), |points, groups| {
            points.gather(1, &groups.index, false)
        })
    }

    /// Encodes the visible groups and decodes all of them.
    ///
    /// # Panics
    /// Never: there are at least two levels.
    #[must_use]
    pub fn decode(&self, groups: &[Groups], mask: &MultiScaleMask, mode: Mode) -> Decoded {
        let encoded = self.h_encoder.encode_visible(groups, &mask.visible, mode);
        let coarsest = encoded.last().expect("there are levels");
        let is_hidden = mask.visible.last().expect("there are levels").logical_not();
        let mut x = coarsest + is_hidden.unsqueeze(2).to_kind(Kind::Float) * &self.mask_token;
        let stages = self.h_decoder.iter().zip(&self.decoder_pos_embeds);
        for (stage, (blocks, pos_embed)) in stages.enumerate() {
            let level = groups.len() - 1 - stage;
            let centers = &groups[level].centers;
            if let Some(before) = stage.checked_sub(1) {
                let coarser = &groups[level + 1].centers;
                x = self.token_prop[before].forward([centers, coarser], [&encoded[level], &x], mode);
            }
            x = blocks.forward(&x, &pos_embed.forward(centers, mode), mode);
        }
        Decoded {
            tokens: self.decoder_norm.forward(&x.flatten(0, 1)),
            coarsest: coarsest.shallow_clone(),
        }
    }

    /// The points of the masked groups, relative to their centers, as [`masked_points`](Self::masked_points) has them.
    ///
    /// # Shapes
    /// - returns M,K,3
    pub fn points(&self, decoded: &Decoded, mask: &MultiScaleMask, mode: Mode) -> Tensor {
        let masked = decoded.tokens.index_select(0, &mask.masked(Self::RECONSTRUCTED));
        let points = self.rec_head_3d.forward(&masked, mode);
        points.view([-1, points.size()[1] / 3, 3])
    }

    /// The features of the points of the visible groups, nearest point first; groups of all clouds follow each other.
    ///
    /// # Shapes
    /// - returns S,K·`feature_channels`
    ///
    /// # Panics
    /// Where the model was built without that head.
    pub fn features(&self, decoded: &Decoded, mask: &MultiScaleMask, mode: Mode) -> Tensor {
        let head = self.rec_head_2d.as_ref().expect("it was asked for");
        let visible = decoded
            .tokens
            .index_select(0, &mask.visible_places(Self::RECONSTRUCTED));
        head.forward(&visible, mode)
    }

    /// The points of the masked groups, as the model makes them of the visible groups and the centers.
    ///
    /// # Shapes
    /// - returns M,K,3
    pub fn reconstruct(&self, groups: &[Groups], mask: &MultiScaleMask, mode: Mode) -> Tensor {
        self.points(&self.decode(groups, mask, mode), mask, mode)
    }
}

/// Tokens of a coarser level carried to a finer one.
#[derive(Debug)]
struct TokenPropagation {
    fuse: (Linear, BatchNorm),
    net1: (Linear, BatchNorm),
    net2: (Linear, BatchNorm),
}

impl TokenPropagation {
    fn new(vs: &nn::Path<'_>, [coarser, finer]: [i64; 2]) -> Self {
        let layer = |vs: nn::Path<'_>, channels: i64| {
            (
                Linear::pointwise(&vs / 0, channels, finer, 1, true),
                BatchNorm::new(&vs / 1, finer),
            )
        };
        let operation = vs / "extraction" / "operation" / 0;
        Self {
            fuse: layer(vs / "fuse" / "net", finer + coarser),
            net1: layer(&operation / "net1", finer),
            net2: layer(&operation / "net2", finer),
        }
    }

    /// # Shapes
    /// - `centers`: B,N,3 of the finer level and B,S,3 of the coarser one; `tokens`: B,N,C and B,S,D
    /// - returns B,N,C
    fn forward(&self, centers: [&Tensor; 2], tokens: [&Tensor; 2], mode: Mode) -> Tensor {
        let carried = ops::interpolate_expanded(tokens[1], centers[1], centers[0]);
        let apply =
            |(conv, norm): &(Linear, BatchNorm), x: &Tensor| norm.forward(&conv.forward(x, mode), mode);
        let x = apply(&self.fuse, &Tensor::cat(&[tokens[0], &carried], 2)).gelu("none");
        let update = apply(&self.net2, &apply(&self.net1, &x).gelu("none"));
        (update + x).gelu("none")
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn where_nothing_is_masked_nothing_is_reconstructed() {
        let mut encoder = PointM2aeConfig::mini();
        for (level, num_groups) in encoder.levels.iter_mut().zip([32, 24, 8]) {
            (level.num_groups, level.num_neighbors, level.num_blocks) = (num_groups, 4, 1);
        }
        let config = HierarchicalAutoencoderConfig {
            encoder,
            decoder_blocks: 1,
            decoder_drop_path: 0.0,
            feature_channels: 0,
        };
        let model = HierarchicalAutoencoder::new(&nn::VarStore::new(Device::Cpu).root(), &config);
        let xyz = Tensor::randn([1, 96, 3], (Kind::Float, Device::Cpu));
        let groups = model.groups(&Cloud {
            features: xyz.transpose(1, 2),
            xyz,
        });
        let all =
            |groups: &Groups| Tensor::ones(groups.centers.size()[..2].to_vec(), (Kind::Bool, Device::Cpu));
        let mask = MultiScaleMask {
            visible: groups.iter().map(all).collect(),
        };
        assert_eq!(model.reconstruct(&groups, &mask, Mode::EVAL).size(), [0, 4, 3]);
    }
}
