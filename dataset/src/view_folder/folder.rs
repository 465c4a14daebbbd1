//! The folder of a mesh's views: complete when it appears, and recognized by later runs.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tap_render::pose_format::PoseFormat;

use super::error::{Result, ViewFolderError};
use super::job::{Failure, ViewRecipe};
use super::pose_file;
use super::views_file::{POINTS_FILE_NAME, SHEET_FILE_NAME, VIEWS_FILE_NAME, ViewEntry, ViewsFile};
use crate::error::error_chain;
use crate::npy;
use crate::owned_folder::OwnedFolder;
use crate::sha256;

/// Last chunk of a PNG: `IEND`, empty, with its checksum.
const PNG_END: &[u8; 12] = b"\0\0\0\0IEND\xae\x42\x60\x82";

/// Names in the folder, and bytes.
pub(super) type Files = Vec<(String, Vec<u8>)>;

/// Longest name, in bytes, that is part of the name of a folder that is not complete; in place of longer ones there is a
/// hash.
const MAX_PLAIN_LEN: usize = 120;
/// Digits of the hash.
const HASH_LEN: usize = 16;
/// Name patterns of images.
const IMAGES: [&str; 3] = ["view_#.png", "view_#_*.png", "view_#_depth.npy"];
/// Start of `views.json`, without white space.
const VIEWS_FILE_START: &str = "{\"source\":";

/// Writes a folder and renames it into place, so that it is complete when it appears. An existing one is replaced if
/// `may_replace` and if it holds views and nothing else.
///
/// # Errors
/// When no mesh's folder can be written any more. The inner error concerns this mesh alone.
pub(super) fn publish(files: &Files, folder: &Path, may_replace: bool) -> Result<Result<(), Failure>> {
    let partial = partial_path(folder);
    let cleared = remove(&partial, &IMAGES.map(str::to_owned));
    let published = match cleared {
        Ok(()) => publish_by(&partial, files, folder, may_replace),
        // Not ours to remove.
        Err(error) => return Ok(Err(taken(&error))),
    };
    if !matches!(published, Ok(Ok(()))) {
        // Leave nothing incomplete; the first error is the one to report.
        let _ = fs::remove_dir_all(&partial);
    }
    published.or_else(|error| {
        if affects_all_folders(&error) {
            Err(ViewFolderError::io("write", folder)(error))
        } else {
            let message = format!("could not write {}: {error}", folder.display());
            Ok(Err(Failure::new("unwritable", message)))
        }
    })
}

fn publish_by(
    partial: &Path,
    files: &Files,
    folder: &Path,
    may_replace: bool,
) -> io::Result<Result<(), Failure>> {
    write_partial(files, partial)?;
    if may_replace && folder.exists() {
        let removed = replaceable(folder).and_then(|views| Ok(views.remove_contents()?));
        if let Err(error) = removed {
            return Ok(Err(taken(&error)));
        }
        fs::remove_dir(folder)?;
    }
    fs::rename(partial, folder).map(Ok)
}

fn taken(error: &ViewFolderError) -> Failure {
    Failure::new("folder-taken", error_chain(error))
}

/// A folder that may be replaced: it holds views of this program and nothing else.
///
/// # Errors
/// When it holds no views, or anything else, which the error names.
pub(super) fn replaceable(folder: &Path) -> Result<OwnedFolder> {
    let images = match (ViewsFile::read(folder), fs::read(folder.join(VIEWS_FILE_NAME))) {
        (Ok(file), _) => {
            let names = file.views.iter().flat_map(ViewEntry::files);
            let is_plain = |name: &&str| !name.contains(['*', '#']);
            names.filter(is_plain).map(str::to_owned).collect()
        }
        (Err(_), Ok(bytes)) if looks_like_views_file(&bytes) => IMAGES.map(str::to_owned).to_vec(),
        _ => {
            return Err(ViewFolderError::NotViews {
                path: folder.to_owned(),
            });
        }
    };
    Ok(survey(folder, &images)?)
}

/// Whether an unreadable `views.json` is one of ours: of another version, truncated, or empty.
fn looks_like_views_file(bytes: &[u8]) -> bool {
    let text: String = String::from_utf8_lossy(bytes).split_whitespace().collect();
    text.is_empty() || text == "{}" || text.starts_with(VIEWS_FILE_START)
}

/// Removes what an interrupted run left.
fn remove(partial: &Path, images: &[String]) -> Result<()> {
    if partial.symlink_metadata().is_err() {
        return Ok(());
    }
    survey(partial, images)?.remove_contents()?;
    fs::remove_dir(partial).map_err(ViewFolderError::io("remove", partial))
}

/// Files of a folder of views with these images, if it holds nothing else.
fn survey(folder: &Path, images: &[String]) -> crate::error::Result<OwnedFolder> {
    let mut names: Vec<&str> = images.iter().map(String::as_str).collect();
    names.extend([VIEWS_FILE_NAME, SHEET_FILE_NAME, POINTS_FILE_NAME]);
    for format in PoseFormat::ALL {
        names.extend_from_slice(pose_file::file_names(format));
    }
    OwnedFolder::survey(folder, &names)
}

fn write_partial(files: &Files, partial: &Path) -> io::Result<()> {
    fs::create_dir_all(partial)?;
    for (name, bytes) in files {
        let path = partial.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::File::create_new(path)?.write_all(bytes)?;
    }
    Ok(())
}

/// Whether the next folder will fail likewise.
fn affects_all_folders(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::PermissionDenied
    )
}

/// Temporary name of a folder; hidden, so that searches for meshes ignore it, and short where the folder's own name is as
/// long as a name may be.
fn partial_path(folder: &Path) -> PathBuf {
    let name = folder.file_name().unwrap_or_default();
    let mut partial = OsString::from(".");
    if name.len() <= MAX_PLAIN_LEN {
        partial.push(name);
    } else {
        partial.push(&sha256::of_bytes(name.as_encoded_bytes())[..HASH_LEN]);
    }
    partial.push(".partial");
    folder.with_file_name(partial)
}

/// `views.json` of a folder that is complete and was made with this recipe. Of which mesh is not checked.
pub(super) fn complete(folder: &Path, recipe: &ViewRecipe) -> Option<ViewsFile> {
    let file = ViewsFile::read(folder).ok()?;
    let is_as_requested = file.recipe == recipe.render
        && file.up == recipe.up
        && file.output == recipe.output
        && !file.is_relit;
    let is_there = |name: &str| is_intact(&folder.join(name)).unwrap_or(false);
    let sheet = file.output.sheet.then_some(SHEET_FILE_NAME);
    let mut poses = file
        .output
        .poses
        .iter()
        .flat_map(|format| pose_file::file_names(*format).iter().copied());
    let is_complete = file.views.iter().all(|view| view.files().all(is_there))
        && sheet.is_none_or(is_there)
        && (file.points.is_none() || is_there(POINTS_FILE_NAME))
        && poses.all(is_there);
    (is_as_requested && is_complete).then_some(file)
}

/// Whether a file exists to its end: after a power failure the last files may be empty or truncated.
fn is_intact(path: &Path) -> io::Result<bool> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    if extension == Some("npy") {
        return Ok(npy::decode_f32(&fs::read(path)?).is_some());
    }
    let mut file = fs::File::open(path)?;
    let size = file.metadata()?.len();
    if extension != Some("png") {
        return Ok(size > 0);
    }
    let mut end = [0; PNG_END.len()];
    if size < end.len() as u64 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-(PNG_END.len() as i64)))?;
    file.read_exact(&mut end)?;
    Ok(end == *PNG_END)
}
