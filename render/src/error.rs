//! `RenderError`: all that can go wrong between a mesh and its views.

use crate::camera::Framing;

/// Why no views could be drawn.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// The machine has no driver that can render.
    #[error(
        "no adapter for the wgpu backend: no Vulkan driver was found (the cpu backend needs none; \
         `apt-get install mesa-vulkan-drivers libvulkan1` installs one that needs no GPU)"
    )]
    NoAdapter,
    /// The machine renders, but has no software adapter.
    #[error(
        "no software adapter, found only {found} \
         (`apt-get install mesa-vulkan-drivers libvulkan1` installs one)"
    )]
    NoSoftwareAdapter {
        /// The adapters that there are, comma-separated.
        found: String,
    },
    /// No adapter has the wanted name.
    #[error("no adapter is named like '{wanted}', found {found}")]
    NoSuchAdapter {
        /// What was asked for.
        wanted: String,
        /// The adapters that there are, comma-separated.
        found: String,
    },
    /// An adapter was asked for, but the CPU draws without one.
    #[error(
        "the cpu backend has no adapters, so there is no '{adapter}': leave it out or use the wgpu backend"
    )]
    AdapterOfCpu {
        /// What was asked for.
        adapter: crate::gpu::AdapterChoice,
    },
    /// The views were submitted to another renderer.
    #[error("these views were submitted to another renderer")]
    NotMine,
    /// The adapter gave no device.
    #[error("adapter '{adapter}' gives no device")]
    Device {
        /// The adapter's name.
        adapter: String,
        /// What the driver said.
        #[source]
        source: wgpu::RequestDeviceError,
    },
    /// The device is gone: the driver crashed or was reset, or another program hung it.
    #[error("the device was lost: {reason}")]
    DeviceLost {
        /// What the driver said.
        reason: String,
    },
    /// The device has no memory left.
    #[error("the device is out of memory")]
    OutOfMemory,
    /// The device refused a command; this is a defect of the renderer or of the driver.
    #[error("the device refused a command")]
    Command {
        /// What it said.
        #[source]
        source: wgpu::Error,
    },
    /// The device did not hand the pixels over.
    #[error("the views cannot be read back from the device")]
    Readback {
        /// Why not.
        #[source]
        source: wgpu::BufferAsyncError,
    },
    /// The device did not hand the pixels over.
    #[error("the views cannot be read back from the device")]
    MapRange {
        /// Why not.
        #[source]
        source: wgpu::MapRangeError,
    },
    /// Waiting for the device failed.
    #[error("the device cannot be waited for")]
    Poll {
        /// Why not.
        #[source]
        source: wgpu::PollError,
    },
    /// The mesh does not fit the device's buffers.
    #[error(
        "{num_triangles} triangles need {needed_bytes} bytes in one buffer, the device allows {limit_bytes}"
    )]
    MeshTooLarge {
        /// Triangles of the mesh.
        num_triangles: usize,
        /// What they take.
        needed_bytes: u64,
        /// What there is.
        limit_bytes: u64,
    },
    /// The views do not fit the device's buffers.
    #[error("{num_views} views need {needed_bytes} bytes in one buffer, the device allows {limit_bytes}")]
    ViewsTooLarge {
        /// Views of the rig.
        num_views: usize,
        /// What they take.
        needed_bytes: u64,
        /// What there is.
        limit_bytes: u64,
    },
    /// The caller holds more unfinished views than the renderer has buffers for.
    #[error("{limit} meshes are in flight already: finish one before the next is submitted")]
    TooManyInFlight {
        /// How many are allowed.
        limit: usize,
    },
    /// The renderer would keep no mesh in flight.
    #[error("a renderer needs at least one mesh in flight")]
    NoneInFlight,
    /// The image's side is out of range.
    #[error("the image size must be 1 to {limit} pixels, not {size_px}")]
    Size {
        /// What was asked for.
        size_px: u32,
        /// The largest side.
        limit: u32,
    },
    /// The views of one mesh would take more memory than they may.
    #[error(
        "{num_views} views of {size_px} x {size_px} pixels take {needed_bytes} bytes with their channels, at most \
         {limit_bytes} are allowed"
    )]
    TooManyPixels {
        /// Views of the rig.
        num_views: usize,
        /// Side of a view, in pixels.
        size_px: u32,
        /// What they take.
        needed_bytes: u64,
        /// What there may be.
        limit_bytes: u64,
    },
    /// The number of samples a pixel is not one that every device has.
    #[error("samples a pixel must be 1 or 4, not {samples}")]
    Samples {
        /// What was asked for.
        samples: u32,
    },
    /// No channel was asked for.
    #[error("a recipe needs at least one channel")]
    NoChannel,
    /// A part of the lighting is out of range.
    #[error("the lighting's {part} must be 0 to {most}, not {value}")]
    Lighting {
        /// Which part.
        part: &'static str,
        /// Its value.
        value: f64,
        /// The largest that it may be.
        most: f64,
    },
    /// The lights of the lighting make no sense.
    #[error("the lighting makes no sense: {reason}")]
    Lights {
        /// Why not.
        reason: &'static str,
    },
    /// A view lacks what a relit picture is made of.
    #[error("a view can only be relit with its {channel} channel")]
    Unlit {
        /// The channel that is missing.
        channel: crate::recipe::Channel,
    },
    /// The eye would be inside or too near the object.
    #[error("the eye must be 0.75 to 1000 diagonals away, not {distance_diagonals}")]
    Distance {
        /// What was asked for.
        distance_diagonals: f32,
    },
    /// The object is degenerate or not finite once placed, so that no camera can frame it.
    #[error(
        "the object cannot be framed by '{framing}': its silhouette in view {view_idx} has no finite extent"
    )]
    Unframeable {
        /// The framing.
        framing: Framing,
        /// The view, from 0.
        view_idx: usize,
    },
}

/// A name in a recipe or on a command line that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such {what} '{found}', expected {expected}")]
pub struct ParseError {
    /// What the name should have named.
    pub what: &'static str,
    /// The names there are.
    pub expected: &'static str,
    /// The name given.
    pub found: String,
}
