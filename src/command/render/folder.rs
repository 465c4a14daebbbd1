//! The folder of a mesh's views: whole when it appears, and recognized when it is there already.

use std::fs;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use tap_dataset::OwnedFolder;
use tap_render::pose_format::PoseFormat;

use super::job::{Failure, Task};
use super::pose_file;
use crate::npy;
use crate::views_file::{POINTS_FILE_NAME, SHEET_FILE_NAME, VIEWS_FILE_NAME, ViewEntry, ViewsFile};

/// What every PNG ends with: an empty chunk of the name `IEND`, and its checksum.
const PNG_END: &[u8; 12] = b"\0\0\0\0IEND\xae\x42\x60\x82";

/// A file's name within the folder, and its bytes.
pub(super) type Files = Vec<(String, Vec<u8>)>;

/// The pictures of views, whichever of them there are.
const PICTURES: [&str; 3] = ["view_#.png", "view_#_*.png", "view_#_depth.npy"];
/// How a folder's `views.json` begins, but for spaces.
const RECORD_BEGIN: &str = "{\"source\":";

/// Writes a folder so that it is whole when it appears. One that is there gives way if it may, and if it is a folder of
/// views and nothing else.
///
/// # Errors
/// When nothing can be written any more, whatever the mesh. The inner error costs this mesh alone.
pub(super) fn publish(files: &Files, folder: &Path, may_replace: bool) -> Result<Result<(), Failure>> {
    let partial = partial_path(folder);
    let cleared = remove(&partial, &PICTURES.map(str::to_owned));
    let published = match cleared {
        Ok(()) => publish_by(&partial, files, folder, may_replace),
        // It is not ours to remove.
        Err(error) => return Ok(Err(taken(&error))),
    };
    if !matches!(published, Ok(Ok(()))) {
        // Nothing half-made is left; why it could not be made is the error that counts.
        let _ = fs::remove_dir_all(&partial);
    }
    published.or_else(|error| {
        let message = format!("could not write {}: {error}", folder.display());
        if is_of_the_disk(&error) {
            Err(anyhow!(message))
        } else {
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

fn taken(error: &anyhow::Error) -> Failure {
    Failure::new("folder-taken", format!("{error:#}"))
}

/// A folder that may give way: what it holds are views that this program drew, and nothing else.
///
/// # Errors
/// When it holds no views, or anything beside them, which is named.
pub(super) fn replaceable(folder: &Path) -> Result<OwnedFolder> {
    let pictures = match (ViewsFile::read(folder), fs::read(folder.join(VIEWS_FILE_NAME))) {
        (Ok(file), _) => {
            let names = file.views.iter().flat_map(ViewEntry::files);
            let is_plain = |name: &&str| !name.contains(['*', '#']);
            names.filter(is_plain).map(str::to_owned).collect()
        }
        (Err(_), Ok(bytes)) if is_record(&bytes) => PICTURES.map(str::to_owned).to_vec(),
        _ => bail!("not a folder of views, so it is left alone: {}", folder.display()),
    };
    Ok(survey(folder, &pictures)?)
}

/// Is a `views.json` that can't be read one of ours: of another version, cut off, or without any content?
fn is_record(bytes: &[u8]) -> bool {
    let text: String = String::from_utf8_lossy(bytes).split_whitespace().collect();
    text.is_empty() || text == "{}" || text.starts_with(RECORD_BEGIN)
}

/// Removes what a kill left of a folder.
fn remove(partial: &Path, pictures: &[String]) -> Result<()> {
    if partial.symlink_metadata().is_err() {
        return Ok(());
    }
    survey(partial, pictures)?.remove_contents()?;
    Ok(fs::remove_dir(partial)?)
}

/// The files of a folder of views with these pictures, if there is nothing else in it.
fn survey(folder: &Path, pictures: &[String]) -> tap_dataset::Result<OwnedFolder> {
    let mut names: Vec<&str> = pictures.iter().map(String::as_str).collect();
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

/// Will the next mesh meet the same?
fn is_of_the_disk(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::PermissionDenied
    )
}

/// Where a folder grows. It is hidden, so that a search for meshes passes it over.
fn partial_path(folder: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(folder.file_name().unwrap_or_default());
    name.push(".partial");
    folder.with_file_name(name)
}

/// The folder's `views.json` if the folder is whole and was made as the task says; which mesh it is of is the caller's
/// to compare.
pub(super) fn whole(folder: &Path, task: &Task) -> Option<ViewsFile> {
    let file = ViewsFile::read(folder).ok()?;
    let is_as_asked =
        file.recipe == task.recipe && file.up == task.up && file.output == task.output && !file.is_relit;
    let is_there = |name: &str| is_whole(&folder.join(name)).unwrap_or(false);
    let sheet = file.output.sheet.then_some(SHEET_FILE_NAME);
    let mut poses = file
        .output
        .poses
        .iter()
        .flat_map(|format| pose_file::file_names(*format).iter().copied());
    let is_whole = file.views.iter().all(|view| view.files().all(is_there))
        && sheet.is_none_or(is_there)
        && (file.points.is_none() || is_there(POINTS_FILE_NAME))
        && poses.all(is_there);
    (is_as_asked && is_whole).then_some(file)
}

/// Is the file there, to its end? When the power fails, the last files may be left empty or cut off, whatever their names.
fn is_whole(path: &Path) -> io::Result<bool> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    if extension == Some("npy") {
        return Ok(npy::read_f32_array(&fs::read(path)?).is_some());
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
