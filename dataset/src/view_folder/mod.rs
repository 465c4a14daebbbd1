//! Folders of views: what `tap render` and `tap relight` write, and what any other program can.
//!
//! [`find_meshes`] lists the meshes of files, folders, patterns and lists; [`render`](fn@render) writes a folder of
//! views for each: images, poses and [`ViewsFile`]. [`find_views`] lists such folders; [`relight`](fn@relight) writes
//! them under another lighting, without the meshes.
//!
//! ```text
//! find_meshes -> prepare (job) -> render -> encode (view_file, pose_file, point) -> publish (folder)
//! ```

mod error;
mod folder;
mod glob;
mod image_file;
mod input;
mod job;
mod out_lock;
mod point;
mod pose_file;
mod relight;
mod render;
mod rig_file;
mod view_file;
mod views_file;

pub use error::{Result, RigFileError, ViewFolderError};
pub use image_file::DepthRange;
pub use input::{Input, Request, SearchNote, find_meshes};
pub use job::{Failure, Timings, ViewRecipe, WrittenViews, material_names, read_mesh};
pub use relight::{RelightViewsOptions, find_views, relight};
pub use render::{Existing, Outcome, ViewFolderEvent, ViewOptions, render};
pub use rig_file::read_rig;
pub use views_file::{
    Asset, DepthFormat, NormalFormat, NormalSpace, Output, POINTS_FILE_NAME, PointSource, SHEET_FILE_NAME,
    VIEWS_FILE_NAME, ViewEntry, ViewsFile,
};
