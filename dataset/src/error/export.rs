//! Errors of exports to the layouts of other programs.

use std::path::PathBuf;

/// A dataset that cannot be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The layout is one of views, and the rows have none.
    #[error("the rows have no views, which the layout {format} is made of: {}", .path.display())]
    NoViews {
        /// Name of the layout.
        format: &'static str,
        /// Folder of the dataset.
        path: PathBuf,
    },
    /// Two objects would have the same file.
    #[error(
        "{first} and {second} would both become {name}; give one another name, with `tap dataset relabel`"
    )]
    SameName {
        /// An object.
        first: String,
        /// Another one.
        second: String,
        /// Their file.
        name: String,
    },
    /// The label of a row is none of a class.
    #[error("{id} has the label {label}, which is that of no class")]
    Label {
        /// The object.
        id: String,
        /// Its label.
        label: i64,
    },
    /// Files of an export are loose, and loose files are written to disks.
    #[error("an export is written to a disk, not to an object store: {}", .path.display())]
    NotOnDisk {
        /// Output.
        path: PathBuf,
    },
    /// A view that cannot be encoded.
    #[error("could not encode a JPEG")]
    Jpeg(#[source] image::ImageError),
}
