//! Errors that end a run over folders of views. A bad mesh is none: it is a [`Failure`](super::Failure).

use std::io;
use std::path::{Path, PathBuf};

use tap_render::pose_format::{PoseFormat, PoseFormatError};
use tap_render::{MissingChannel, RenderError, RigError};

use super::views_file::VIEWS_FILE_NAME;
use crate::error::{DatasetError, ThreadError};

/// Result of this module's fallible functions.
pub type Result<T, E = ViewFolderError> = std::result::Result<T, E>;

/// Any error of this module. Messages are one line with the path last.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewFolderError {
    /// An operating-system error.
    #[error("could not {action} {}", .path.display())]
    Io {
        /// Verb and object: "read", "read the folder", ...
        action: &'static str,
        /// File or folder.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// An address in an object store.
    #[error(
        "meshes are rendered to pictures from a local folder alone, and this is an address; copy them, or build a data set of \
         them with `tap dataset build`: {}",
        .path.display()
    )]
    Address {
        /// Address.
        path: PathBuf,
    },
    /// Nothing that was asked for is a mesh.
    #[error("no mesh found ({extensions} files are meshes)")]
    NoMesh {
        /// File extensions of meshes.
        extensions: String,
    },
    /// A pattern matches no mesh.
    #[error("no mesh matches {}", .pattern.display())]
    NoMatch {
        /// The pattern.
        pattern: PathBuf,
    },
    /// A mesh is outside the folder that names are relative to.
    #[error("not below --root {}: {}", .root.display(), .path.display())]
    OutsideRoot {
        /// The folder that names are relative to.
        root: PathBuf,
        /// Mesh file.
        path: PathBuf,
    },
    /// Two meshes have the same folder of views.
    #[error("two meshes would share the folder {}, render them apart: {}", .name.display(), .path.display())]
    SharedFolder {
        /// Folder of views, relative to the output.
        name: PathBuf,
        /// One of the mesh files.
        path: PathBuf,
    },
    /// No folder of views was found.
    #[error("no {VIEWS_FILE_NAME} is in or below {}", .path.display())]
    NoViews {
        /// Folder that was searched.
        path: PathBuf,
    },
    /// Another process writes to the output folder.
    #[error("another tap writes views there; wait for it, or choose another --out: {}", .path.display())]
    Locked {
        /// Output folder.
        path: PathBuf,
    },
    /// An output folder exists.
    #[error("there are views already ({remedy}): {}", .path.display())]
    Exists {
        /// Flags that allow it.
        remedy: &'static str,
        /// Output folder.
        path: PathBuf,
    },
    /// An output folder that would be replaced is not a folder of views.
    #[error("not a folder of views, so it is left alone: {}", .path.display())]
    NotViews {
        /// Output folder.
        path: PathBuf,
    },
    /// An output folder that would be replaced is an input.
    #[error("--force would remove an input; choose another output than {}", .path.display())]
    IsInput {
        /// Output folder.
        path: PathBuf,
    },
    /// `views.json` cannot be parsed.
    #[error("not the file of a folder of views: {}", .path.display())]
    ViewsFile {
        /// The file.
        path: PathBuf,
        /// Error of the parser.
        #[source]
        source: serde_json::Error,
    },
    /// A file that should hold a rig holds none.
    #[error("no poses are in {}", .path.display())]
    RigFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        #[source]
        source: RigFileError,
    },
    /// A sheet needs the color channel.
    #[error("a sheet shows the color channel, which --channels leaves out")]
    SheetWithoutColor,
    /// Whether a point is visible is known from depth.
    #[error("--points needs the depth channel: --channels color,mask,depth")]
    PointsWithoutDepth,
    /// A pose format has no orthographic cameras.
    #[error("--poses {format}: it has no cameras of parallel projection")]
    NoOrthographicPoses {
        /// The format.
        format: PoseFormat,
    },
    /// A pose format names images of the color channel.
    #[error("--poses {format}: it names the images of the color channel, which --channels leaves out")]
    PosesWithoutImages {
        /// The format.
        format: PoseFormat,
    },
    /// A view has no pose in a format.
    #[error("could not write the poses")]
    Pose(#[from] PoseFormatError),
    /// The renderer could not start.
    #[error(transparent)]
    Renderer(RenderError),
    /// The device failed, and no other could be opened.
    #[error("the device failed and no other could be opened")]
    DeviceLost(#[from] RenderError),
    /// A view lacks a channel that a file needs.
    #[error("could not write the view")]
    View(#[from] MissingChannel),
    /// Threads could not be started.
    #[error(transparent)]
    Thread(#[from] ThreadError),
    /// An image, or a folder that is not only ours.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
}

impl ViewFolderError {
    /// Wraps an operating-system error: `.map_err(ViewFolderError::io("read", path))`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// Why a file holds no rig.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RigFileError {
    /// It is too long.
    #[error("more than {max_bytes} bytes are no list of poses")]
    TooLong {
        /// Limit on its length.
        max_bytes: u64,
    },
    /// It is not JSON, or not of poses.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// It is JSON of something else.
    #[error("expected a list of poses with azimuth_deg, elevation_deg and roll_deg, or a views.json")]
    NotPoses,
    /// Its poses are no rig.
    #[error(transparent)]
    Rig(#[from] RigError),
}
