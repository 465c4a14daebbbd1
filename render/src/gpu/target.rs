//! The render target: an atlas that holds the views of a pass side by side, on a GPU those of a whole rig.

use glam::UVec2;

use super::pipeline::Pipelines;
use super::pipeline_key::{Attachment, TargetKey};
use crate::lighting::ColorKind;

/// The visible triangle's index plus 1, in two 16-bit halves: 32-bit integers cannot be multisampled everywhere.
pub(super) const TRIANGLE_ID_FORMAT: wgpu::TextureFormat = wgpu::TextureFormat::Rg16Uint;
pub(super) const DEPTH_FORMAT: wgpu::TextureFormat = wgpu::TextureFormat::Depth32Float;

/// Most pixels of an atlas, which bounds its memory (8 bytes per sample). A larger rig takes several passes.
const MAX_ATLAS_PIXELS: u32 = 1 << 22;
/// Longest side of an atlas; every device supports it.
const MAX_ATLAS_SIDE_PX: u32 = 8192;

/// Arrangement of views in the atlas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Atlas {
    pub(super) size_px: u32,
    columns: u32,
    rows: u32,
}

impl Atlas {
    /// Room for `num_views` views, or for as many of them as one atlas may hold.
    pub(super) fn new(size_px: u32, num_views: usize) -> Self {
        let max_tiles = (MAX_ATLAS_PIXELS / (size_px * size_px)).max(1);
        let num_tiles = (num_views as u64).min(u64::from(max_tiles)) as u32;
        let columns = num_tiles.isqrt().max(1).min(MAX_ATLAS_SIDE_PX / size_px);
        let rows = num_tiles.div_ceil(columns).min(MAX_ATLAS_SIDE_PX / size_px);
        Self {
            size_px,
            columns,
            rows,
        }
    }

    /// Size of the atlas.
    pub(super) fn extent(&self) -> wgpu::Extent3d {
        wgpu::Extent3d {
            width: self.columns * self.size_px,
            height: self.rows * self.size_px,
            depth_or_array_layers: 1,
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

/// The attachments, shared by all submissions.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) atlas: Atlas,
    key: TargetKey,
    /// Triangle id per sample; absent if forward-shaded.
    triangle_ids: Option<wgpu::TextureView>,
    depth: wgpu::TextureView,
    /// The attachments that are read back, those of the key.
    pub(super) attachments: Vec<(Attachment, wgpu::Texture, wgpu::TextureView)>,
    /// The visibility buffer, for the resolve pass.
    pub(super) bind_group: Option<wgpu::BindGroup>,
}

impl Target {
    pub(super) fn new(device: &wgpu::Device, pipelines: &Pipelines, atlas: Atlas) -> Self {
        use wgpu::TextureUsages as Usage;
        let key = pipelines.key.target;
        let create_texture = |label, format, sample_count, usage| {
            let texture = device.create_texture(&wgpu::TextureDescriptor {
                label: Some(label),
                size: atlas.extent(),
                mip_level_count: 1,
                sample_count,
                dimension: wgpu::TextureDimension::D2,
                format,
                usage: Usage::RENDER_ATTACHMENT | usage,
                view_formats: &[],
            });
            let view = texture.create_view(&wgpu::TextureViewDescriptor::default());
            (texture, view)
        };
        let of_samples = |label, format, usage| create_texture(label, format, key.samples, usage).1;
        let (triangle_ids, depth_usage) = if key.is_forward {
            (None, Usage::empty())
        } else {
            let triangle_ids = of_samples("triangle ids", TRIANGLE_ID_FORMAT, Usage::TEXTURE_BINDING);
            (Some(triangle_ids), Usage::TEXTURE_BINDING)
        };
        let depth = of_samples("depth", DEPTH_FORMAT, depth_usage);
        let attachments = key.attachments().map(|attachment| {
            let (texture, view) = create_texture("attachment", attachment.format(key), 1, Usage::COPY_SRC);
            (attachment, texture, view)
        });
        let attachments = attachments.collect();
        let bind_group = match (&pipelines.resolve, &triangle_ids) {
            (Some(resolve), Some(triangle_ids)) => {
                let entry = |binding, view| wgpu::BindGroupEntry {
                    binding,
                    resource: wgpu::BindingResource::TextureView(view),
                };
                Some(device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some("target"),
                    layout: &resolve.visibility_layout,
                    entries: &[entry(0, triangle_ids), entry(1, &depth)],
                }))
            }
            _ => None,
        };
        Self {
            atlas,
            key,
            triangle_ids,
            depth,
            attachments,
            bind_group,
        }
    }

    pub(super) fn fits(&self, key: TargetKey, atlas: Atlas) -> bool {
        self.key == key && self.atlas == atlas
    }

    /// Begins the pass that draws triangles, on a cleared atlas.
    pub(super) fn begin_geometry_pass<'encoder>(
        &self,
        encoder: &'encoder mut wgpu::CommandEncoder,
        background: [u8; 3],
    ) -> wgpu::RenderPass<'encoder> {
        let (view, clear, keep_depth) = match &self.triangle_ids {
            Some(triangle_ids) => (triangle_ids, wgpu::Color::TRANSPARENT, wgpu::StoreOp::Store),
            None => (self.color(), self.clear_color(background), wgpu::StoreOp::Discard),
        };
        encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            label: Some("geometry"),
            color_attachments: &[Some(cleared(view, clear))],
            depth_stencil_attachment: Some(wgpu::RenderPassDepthStencilAttachment {
                view: &self.depth,
                depth_ops: Some(wgpu::Operations {
                    load: wgpu::LoadOp::Clear(1.0),
                    store: keep_depth,
                }),
                stencil_ops: None,
            }),
            ..wgpu::RenderPassDescriptor::default()
        })
    }

    /// Begins the pass that resolves samples to pixels.
    pub(super) fn begin_resolve_pass<'encoder>(
        &self,
        encoder: &'encoder mut wgpu::CommandEncoder,
        background: [u8; 3],
    ) -> wgpu::RenderPass<'encoder> {
        let attachments = Attachment::ALL.map(|wanted| {
            let (attachment, _, view) = self
                .attachments
                .iter()
                .find(|(attachment, ..)| *attachment == wanted)?;
            let clear = if *attachment == Attachment::Color {
                self.clear_color(background)
            } else {
                wgpu::Color::TRANSPARENT
            };
            Some(cleared(view, clear))
        });
        encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            label: Some("resolve"),
            color_attachments: &attachments,
            ..wgpu::RenderPassDescriptor::default()
        })
    }

    fn color(&self) -> &wgpu::TextureView {
        &self.attachments.first().expect("color is always there").2
    }

    /// Background color with coverage 0; if there is only one channel, white for uncovered.
    fn clear_color(&self, background: [u8; 3]) -> wgpu::Color {
        let [r, g, b] = background.map(|part| f64::from(part) / 255.0);
        match self.key.color_kind {
            ColorKind::Gray if self.key.is_forward => wgpu::Color::WHITE,
            ColorKind::Gray => wgpu::Color {
                r,
                g: 0.0,
                b: 0.0,
                a: 0.0,
            },
            ColorKind::Rgb => wgpu::Color { r, g, b, a: 0.0 },
        }
    }
}

/// An attachment that is cleared and stored.
fn cleared(view: &wgpu::TextureView, color: wgpu::Color) -> wgpu::RenderPassColorAttachment<'_> {
    wgpu::RenderPassColorAttachment {
        view,
        depth_slice: None,
        resolve_target: None,
        ops: wgpu::Operations {
            load: wgpu::LoadOp::Clear(color),
            store: wgpu::StoreOp::Store,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_do_not_overlap_and_stay_within_the_atlas() {
        for (size_px, num_views) in [(224, 12), (64, 80), (1, 1), (2048, 12), (1000, 3), (1, 100_000)] {
            let atlas = Atlas::new(size_px, num_views);
            let (width, height) = (atlas.columns * size_px, atlas.rows * size_px);
            assert!(
                width <= MAX_ATLAS_SIDE_PX && height <= MAX_ATLAS_SIDE_PX,
                "{width} x {height}"
            );
            assert!(
                width * height < 2 * MAX_ATLAS_PIXELS,
                "{width} x {height} is too much memory"
            );
            let mut origins: Vec<_> = (0..atlas.num_tiles())
                .map(|tile_idx| atlas.origin_px(tile_idx).to_array())
                .collect();
            assert!(
                origins
                    .iter()
                    .all(|[x, y]| x + size_px <= width && y + size_px <= height),
                "outside"
            );
            origins.sort_unstable();
            origins.dedup();
            assert_eq!(origins.len(), atlas.num_tiles(), "two tiles at one place");
        }
        assert!(
            Atlas::new(224, 12).num_tiles() >= 12,
            "the default rig takes one pass"
        );
    }
}
