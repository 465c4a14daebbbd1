//! `WebDataset`: tar files `<split>-<number>.tar`, whose members share the key of their sample: `00000012.json`,
//! `00000012.points.npy`, `00000012.view_001.png` and so on.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use serde_json::json;
use tar::{Builder, EntryType, Header};

use super::{Folder, OutputFile, Row};
use crate::error::{DatasetError, Result};
use crate::image::encode_gray_png;
use crate::npy::{encode_f32 as encode_f32_npy, encode_u8 as encode_u8_npy};
use crate::schema::{Sample, SampleView};

/// Members of a row, with their names after the key.
pub(super) fn members(row: &Row, sample: &Sample) -> Result<Vec<OutputFile>> {
    let Sample {
        id,
        category,
        label,
        points,
        normals,
        part_labels,
        views,
        coverage_min,
        object_from_mesh,
        source_sha256,
        assets_sha256: _,
        mesh: _,
    } = sample;
    // Key of the sample: names of objects may have dots, which end a key.
    let key = format!("{:08}", row.place_in_split);
    let about = json!({
        "id": id,
        "category": category,
        "label": label,
        "split": row.split,
        "coverage_min": coverage_min,
        "object_from_mesh": object_from_mesh,
        "source_sha256": source_sha256,
    });
    let mut members = Vec::new();
    let mut push = |name: &str, bytes: Vec<u8>| members.push((format!("{key}.{name}"), bytes));
    push("json", about.to_string().into_bytes());
    push("cls", label.to_string().into_bytes());
    push(
        "points.npy",
        encode_f32_npy(&[points.len(), 3], points.as_flattened()),
    );
    if let Some(normals) = normals {
        push(
            "normals.npy",
            encode_f32_npy(&[normals.len(), 3], normals.as_flattened()),
        );
    }
    if let Some(labels) = part_labels {
        push("part_labels.npy", encode_u8_npy(&[labels.len()], labels));
    }
    if !views.is_empty() {
        let matrices = |matrix: fn(&SampleView) -> &[f32; 16]| {
            let values: Vec<f32> = views.iter().flat_map(|view| *matrix(view)).collect();
            encode_f32_npy(&[views.len(), 4, 4], &values)
        };
        push("view_from_object.npy", matrices(|view| &view.view_from_object));
        push("clip_from_view.npy", matrices(|view| &view.clip_from_view));
    }
    for (view_number, view) in (1..).zip(views) {
        push(&format!("view_{view_number:03}.png"), view.image_png.clone());
        let covered = view.mask.to_pixels().into_iter().map(|pixel| pixel * u8::MAX);
        let mask = encode_gray_png(view.mask.size_px(), &covered.collect::<Vec<u8>>())?;
        push(&format!("mask_{view_number:03}.png"), mask);
    }
    Ok(members)
}

/// The tar file that is written.
pub(super) struct Tars {
    rows_per_tar: usize,
    open: Option<Tar>,
}

struct Tar {
    builder: Builder<BufWriter<File>>,
    path: PathBuf,
}

impl Tars {
    pub(super) fn new(rows_per_tar: usize) -> Self {
        Self {
            rows_per_tar: rows_per_tar.max(1),
            open: None,
        }
    }

    /// Appends the members of the next row, to a new file where the last one is full or of another split.
    pub(super) fn append(&mut self, folder: &mut Folder, row: &Row, members: &[OutputFile]) -> Result<()> {
        let (number, place_in_tar) = (
            row.place_in_split / self.rows_per_tar,
            row.place_in_split % self.rows_per_tar,
        );
        let tar = match &mut self.open {
            Some(tar) if place_in_tar > 0 => tar,
            _ => {
                self.finish(folder)?;
                let name = format!("{}-{number:06}.tar", row.split);
                self.open.insert(Tar {
                    path: folder.path.join(&name),
                    builder: Builder::new(BufWriter::new(folder.create(&name)?)),
                })
            }
        };
        for (name, bytes) in members {
            append(&mut tar.builder, name, bytes).map_err(DatasetError::io("write", &tar.path))?;
        }
        Ok(())
    }

    /// Ends the file that is open.
    pub(super) fn finish(&mut self, folder: &mut Folder) -> Result<()> {
        let Some(Tar { builder, path, .. }) = self.open.take() else {
            return Ok(());
        };
        let finished = builder.into_inner().and_then(|mut file| {
            file.flush()?;
            file.get_ref().metadata()
        });
        folder.bytes += finished.map_err(DatasetError::io("write", &path))?.len();
        Ok(())
    }
}

/// Appends a member that is the same whenever and by whomever it is written.
fn append(builder: &mut Builder<BufWriter<File>>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    builder.append_data(&mut header, name, bytes)
}
