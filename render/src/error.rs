//! `RenderError`: everything that can go wrong between a mesh and its views.

use crate::camera::Framing;

/// Why views cannot be rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// There is no driver.
    #[error(
        "no adapter for the wgpu backend: no Vulkan driver was found (the cpu backend needs none; \
         `apt-get install mesa-vulkan-drivers libvulkan1` installs one that needs no GPU)"
    )]
    NoAdapter,
    /// There is no software driver.
    #[error(
        "no software adapter, found only {found} \
         (`apt-get install mesa-vulkan-drivers libvulkan1` installs one)"
    )]
    NoSoftwareAdapter {
        /// Names of the available adapters, comma-separated.
        found: String,
    },
    /// No adapter matches the requested name.
    #[error("no adapter is named like '{wanted}', found {found}")]
    NoSuchAdapter {
        /// The requested name.
        wanted: String,
        /// Names of the available adapters, comma-separated.
        found: String,
    },
    /// An adapter was requested together with the CPU backend.
    #[error("adapter '{adapter}' needs the wgpu backend, the cpu backend has none")]
    AdapterWithCpu {
        /// The requested adapter.
        adapter: crate::gpu::AdapterChoice,
    },
    /// The views were submitted to another renderer.
    #[error("these views were submitted to another renderer")]
    WrongRenderer,
    /// The adapter refused to open a device.
    #[error("adapter '{adapter}' gives no device")]
    Device {
        /// The adapter's name.
        adapter: String,
        /// The driver's error.
        #[source]
        source: wgpu::RequestDeviceError,
    },
    /// The device was lost: the driver crashed or was reset, or another program hung it.
    #[error("the device was lost: {reason}")]
    DeviceLost {
        /// The driver's message.
        reason: String,
    },
    /// The device is out of memory.
    #[error("the device is out of memory")]
    OutOfMemory,
    /// The device refused a command, a bug of the renderer or of the driver.
    #[error("the device refused a command")]
    Command {
        /// The validation error.
        #[source]
        source: wgpu::Error,
    },
    /// Readback failed.
    #[error("the views cannot be read back from the device")]
    Readback {
        /// The cause.
        #[source]
        source: wgpu::BufferAsyncError,
    },
    /// Readback failed.
    #[error("the views cannot be read back from the device")]
    MapRange {
        /// The cause.
        #[source]
        source: wgpu::MapRangeError,
    },
    /// Waiting for the device failed.
    #[error("waiting for the device failed")]
    Poll {
        /// The cause.
        #[source]
        source: wgpu::PollError,
    },
    /// The mesh exceeds the device's buffer size.
    #[error(
        "{num_triangles} triangles need {needed_bytes} bytes in one buffer, the device allows {limit_bytes}"
    )]
    MeshTooLarge {
        /// Triangles of the mesh.
        num_triangles: usize,
        /// Bytes of its largest buffer.
        needed_bytes: u64,
        /// The device's limit.
        limit_bytes: u64,
    },
    /// The views exceed the device's buffer size.
    #[error("{num_views} views need {needed_bytes} bytes in one buffer, the device allows {limit_bytes}")]
    ViewsTooLarge {
        /// Views of the rig.
        num_views: usize,
        /// Bytes of the readback buffer.
        needed_bytes: u64,
        /// The device's limit.
        limit_bytes: u64,
    },
    /// More views are pending than the renderer has buffers for.
    #[error("{limit} meshes are in flight already: finish one before the next is submitted")]
    TooManyInFlight {
        /// The renderer's limit.
        limit: usize,
    },
    /// [`RendererOptions::max_in_flight`](crate::RendererOptions::max_in_flight) is 0.
    #[error("a renderer needs at least one mesh in flight")]
    ZeroInFlight,
    /// The image size is out of range.
    #[error("the image size must be 1 to {limit} pixels, not {size_px}")]
    Size {
        /// The size, in pixels.
        size_px: u32,
        /// The largest size, in pixels.
        limit: u32,
    },
    /// The views of one mesh exceed the memory limit.
    #[error(
        "{num_views} views of {size_px} x {size_px} pixels take {needed_bytes} bytes with their channels, at most \
         {limit_bytes} are allowed"
    )]
    TooManyPixels {
        /// Views of the rig.
        num_views: usize,
        /// Side of a view, in pixels.
        size_px: u32,
        /// Bytes of all views.
        needed_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// The number of samples per pixel is not one that every device supports.
    #[error("samples per pixel must be 1 or 4, not {samples}")]
    Samples {
        /// The number of samples.
        samples: u32,
    },
    /// No channel was requested.
    #[error("a recipe needs at least one channel")]
    NoChannel,
    /// A value of the lighting is out of range.
    #[error("the lighting's {part} must be 0 to {most}, not {value}")]
    Lighting {
        /// Name of the field.
        part: &'static str,
        /// Its value.
        value: f64,
        /// The largest valid value.
        most: f64,
    },
    /// The light sources are not valid.
    #[error("invalid lighting: {reason}")]
    Lights {
        /// The reason.
        reason: &'static str,
    },
    /// A view lacks a required channel.
    #[error("the view has no {channel} channel")]
    MissingChannel {
        /// The missing channel.
        channel: crate::recipe::Channel,
    },
    /// The eye would be inside of the object, or too far away.
    #[error("the eye must be 0.75 to 1000 diagonals away, not {distance_diagonals}")]
    Distance {
        /// The distance, in diagonals.
        distance_diagonals: f32,
    },
    /// No camera can frame the object: it is degenerate or not finite.
    #[error(
        "the object cannot be framed by '{framing}': its silhouette in view {view_idx} has no finite extent"
    )]
    Unframeable {
        /// The framing.
        framing: Framing,
        /// Index of the view, counted from 0.
        view_idx: usize,
    },
}

/// A name in a recipe or on a command line that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} '{found}', expected {expected}")]
pub struct ParseError {
    /// The kind of name.
    pub what: &'static str,
    /// The valid names.
    pub expected: &'static str,
    /// The name given.
    pub found: String,
}
