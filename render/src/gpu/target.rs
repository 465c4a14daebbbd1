//! What is drawn into: one atlas in which the views of a pass lie side by side, on a GPU those of a whole rig.

use glam::UVec2;

use super::pipeline::Pipelines;
use super::pipeline_key::{Plane, TargetPlan};
use crate::view::ColorKind;

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

    /// Of the atlas.
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

/// The attachments, which submissions use one after the other.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) tiling: Tiling,
    plan: TargetPlan,
    /// What each sample sees, unless faces are painted: colors are drawn in place.
    names: Option<wgpu::TextureView>,
    depth: wgpu::TextureView,
    /// What is read back: one for each of the plan's planes.
    pub(super) planes: Vec<(Plane, wgpu::Texture, wgpu::TextureView)>,
    /// What resolving reads.
    pub(super) bind_group: Option<wgpu::BindGroup>,
}

impl Target {
    pub(super) fn new(device: &wgpu::Device, pipelines: &Pipelines, tiling: Tiling) -> Self {
        use wgpu::TextureUsages as Usage;
        let plan = pipelines.plan.target;
        let attachment = |label, format, sample_count, usage| {
            let texture = device.create_texture(&wgpu::TextureDescriptor {
                label: Some(label),
                size: tiling.extent(),
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
        let of_samples = |label, format, usage| attachment(label, format, plan.samples, usage).1;
        let (names, depth_usage) = if plan.is_painted {
            (None, Usage::empty())
        } else {
            let names = of_samples("names", NAME_FORMAT, Usage::TEXTURE_BINDING);
            (Some(names), Usage::TEXTURE_BINDING)
        };
        let depth = of_samples("depth", DEPTH_FORMAT, depth_usage);
        let planes = plan.planes().map(|plane| {
            let (texture, view) = attachment("plane", plane.format(plan), 1, Usage::COPY_SRC);
            (plane, texture, view)
        });
        let planes = planes.collect();
        let bind_group = match (&pipelines.resolve, &names) {
            (Some(resolve), Some(names)) => {
                let entry = |binding, view| wgpu::BindGroupEntry {
                    binding,
                    resource: wgpu::BindingResource::TextureView(view),
                };
                Some(device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some("target"),
                    layout: &resolve.target_layout,
                    entries: &[entry(0, names), entry(1, &depth)],
                }))
            }
            _ => None,
        };
        Self {
            tiling,
            plan,
            names,
            depth,
            planes,
            bind_group,
        }
    }

    pub(super) fn fits(&self, plan: TargetPlan, tiling: Tiling) -> bool {
        self.plan == plan && self.tiling == tiling
    }

    /// Begins the pass that draws triangles, over the cleared atlas.
    pub(super) fn begin_drawing<'encoder>(
        &self,
        encoder: &'encoder mut wgpu::CommandEncoder,
        background: [u8; 3],
    ) -> wgpu::RenderPass<'encoder> {
        let (view, clear, keep_depth) = match &self.names {
            Some(names) => (names, wgpu::Color::TRANSPARENT, wgpu::StoreOp::Store),
            None => (self.color(), self.clear_color(background), wgpu::StoreOp::Discard),
        };
        encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            label: Some("draw"),
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

    /// Begins the pass that makes pixels of samples.
    pub(super) fn begin_resolving<'encoder>(
        &self,
        encoder: &'encoder mut wgpu::CommandEncoder,
        background: [u8; 3],
    ) -> wgpu::RenderPass<'encoder> {
        let attachments = Plane::ALL.map(|wanted| {
            let (plane, _, view) = self.planes.iter().find(|(plane, ..)| *plane == wanted)?;
            let clear = if *plane == Plane::Color {
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
        &self.planes.first().expect("color is always there").2
    }

    /// The background, and that nothing is covered; that alone where there is room for one part.
    fn clear_color(&self, background: [u8; 3]) -> wgpu::Color {
        let [r, g, b] = background.map(|part| f64::from(part) / 255.0);
        match self.plan.color_kind {
            ColorKind::Gray if self.plan.is_painted => wgpu::Color::WHITE,
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

/// An attachment of this color everywhere, to be drawn on and kept.
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
