//! What is drawn into: one atlas in which views lie side by side, so that a whole rig is one pass.

use glam::UVec2;

use super::pipeline::Pipelines;

/// The number of the triangle that a sample sees, plus 1, in two halves: 32-bit integers are not multisampled everywhere.
pub(super) const NAME_FORMAT: wgpu::TextureFormat = wgpu::TextureFormat::Rg16Uint;
pub(super) const DEPTH_FORMAT: wgpu::TextureFormat = wgpu::TextureFormat::Depth32Float;

/// Most pixels of an atlas, which bounds its memory (8 bytes a sample): a rig that needs more takes several passes.
const MAX_ATLAS_PIXELS: u32 = 1 << 22;
/// Longest side of an atlas: what every device can do.
const MAX_ATLAS_SIDE_PX: u32 = 8192;

/// How views lie in the atlas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tiling {
    pub(super) size_px: u32,
    columns: u32,
    rows: u32,
}

impl Tiling {
    /// Room for `num_views` views, or as many of them as one atlas may hold.
    pub(super) fn new(size_px: u32, num_views: usize) -> Self {
        let most = (MAX_ATLAS_PIXELS / (size_px * size_px)).max(1);
        let num_tiles = (num_views as u64).min(u64::from(most)) as u32;
        let columns = num_tiles.isqrt().max(1).min(MAX_ATLAS_SIDE_PX / size_px);
        let rows = num_tiles.div_ceil(columns).min(MAX_ATLAS_SIDE_PX / size_px);
        Self {
            size_px,
            columns,
            rows,
        }
    }

    pub(super) fn num_tiles(&self) -> usize {
        (self.columns * self.rows) as usize
    }

    /// Top left pixel of a tile.
    pub(super) fn origin_px(&self, tile_idx: usize) -> UVec2 {
        let tile_idx = tile_idx as u32;
        UVec2::new(tile_idx % self.columns, tile_idx / self.columns) * self.size_px
    }
}

/// The attachments, which submissions use one after the other.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) tiling: Tiling,
    samples: u32,
    name: wgpu::TextureView,
    depth: wgpu::TextureView,
    pub(super) bind_group: wgpu::BindGroup,
}

impl Target {
    pub(super) fn new(device: &wgpu::Device, pipelines: &Pipelines, tiling: Tiling) -> Self {
        let samples = pipelines.samples;
        let attachment = |label, format| {
            let texture = device.create_texture(&wgpu::TextureDescriptor {
                label: Some(label),
                size: wgpu::Extent3d {
                    width: tiling.columns * tiling.size_px,
                    height: tiling.rows * tiling.size_px,
                    depth_or_array_layers: 1,
                },
                mip_level_count: 1,
                sample_count: samples,
                dimension: wgpu::TextureDimension::D2,
                format,
                usage: wgpu::TextureUsages::RENDER_ATTACHMENT | wgpu::TextureUsages::TEXTURE_BINDING,
                view_formats: &[],
            });
            texture.create_view(&wgpu::TextureViewDescriptor::default())
        };
        let name = attachment("name", NAME_FORMAT);
        let depth = attachment("depth", DEPTH_FORMAT);
        let entry = |binding, view| wgpu::BindGroupEntry {
            binding,
            resource: wgpu::BindingResource::TextureView(view),
        };
        let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("target"),
            layout: &pipelines.target_layout,
            entries: &[entry(0, &name), entry(1, &depth)],
        });
        Self {
            tiling,
            samples,
            name,
            depth,
            bind_group,
        }
    }

    pub(super) fn fits(&self, samples: u32, tiling: Tiling) -> bool {
        self.samples == samples && self.tiling == tiling
    }

    /// Begins a pass over the cleared atlas.
    pub(super) fn begin_pass<'encoder>(
        &self,
        encoder: &'encoder mut wgpu::CommandEncoder,
    ) -> wgpu::RenderPass<'encoder> {
        encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            label: Some("draw"),
            color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                view: &self.name,
                depth_slice: None,
                resolve_target: None,
                ops: wgpu::Operations {
                    load: wgpu::LoadOp::Clear(wgpu::Color::TRANSPARENT),
                    store: wgpu::StoreOp::Store,
                },
            })],
            depth_stencil_attachment: Some(wgpu::RenderPassDepthStencilAttachment {
                view: &self.depth,
                depth_ops: Some(wgpu::Operations {
                    load: wgpu::LoadOp::Clear(1.0),
                    store: wgpu::StoreOp::Store,
                }),
                stencil_ops: None,
            }),
            ..wgpu::RenderPassDescriptor::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_do_not_overlap_and_stay_within_the_atlas() {
        for (size_px, num_views) in [(224, 12), (64, 80), (1, 1), (2048, 12), (1000, 3), (1, 100_000)] {
            let tiling = Tiling::new(size_px, num_views);
            let (width, height) = (tiling.columns * size_px, tiling.rows * size_px);
            assert!(
                width <= MAX_ATLAS_SIDE_PX && height <= MAX_ATLAS_SIDE_PX,
                "{width} x {height}"
            );
            assert!(
                width * height < 2 * MAX_ATLAS_PIXELS,
                "{width} x {height} is too much memory"
            );
            let mut origins: Vec<_> = (0..tiling.num_tiles())
                .map(|tile_idx| tiling.origin_px(tile_idx).to_array())
                .collect();
            assert!(
                origins
                    .iter()
                    .all(|[x, y]| x + size_px <= width && y + size_px <= height),
                "outside"
            );
            origins.sort_unstable();
            origins.dedup();
            assert_eq!(origins.len(), tiling.num_tiles(), "two tiles at one place");
        }
        assert!(
            Tiling::new(224, 12).num_tiles() >= 12,
            "the default rig takes one pass"
        );
    }
}
