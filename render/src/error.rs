//! Errors of rendering, by what is at fault: the recipe, the object, the device, or the caller.

use crate::adapter::AdapterChoice;
use crate::camera::Framing;
use crate::recipe::RecipeError;

/// Why views cannot be rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// The recipe is not valid.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The object cannot be drawn; others can.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The device is missing or failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// An adapter was requested together with the CPU backend.
    #[error("adapter '{adapter}' needs the wgpu backend, the cpu backend has none")]
    AdapterWithCpu {
        /// The requested adapter.
        adapter: AdapterChoice,
    },
    /// The views were submitted to another renderer.
    #[error("these views were submitted to another renderer")]
    WrongRenderer,
    /// More views are pending than the renderer has buffers for.
    #[error("{limit} meshes are in flight already: finish one before the next is submitted")]
    TooManyInFlight {
        /// The renderer's limit.
        limit: usize,
    },
    /// [`RendererOptions::max_in_flight`](crate::RendererOptions::max_in_flight) is 0.
    #[error("a renderer needs at least one mesh in flight")]
    ZeroInFlight,
}

/// Why an object cannot be drawn, while the device is still usable.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
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
}

/// Why there is no device, or why it failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
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
    /// The adapter refused to open a device.
    #[error("adapter '{adapter}' gives no device")]
    Open {
        /// The adapter's name.
        adapter: String,
        /// The driver's error.
        #[source]
        source: wgpu::RequestDeviceError,
    },
    /// The device was lost: the driver crashed or was reset, or another program hung it.
    #[error("the device was lost: {reason}")]
    Lost {
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
}
