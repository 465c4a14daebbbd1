//! TensorBoard event files, written by hand: `TFRecord` framing around five small protobuf messages.
//!
//! Only what the trainer needs: scalars and PNG images. Format: `tensorflow/core/util/event.proto`,
//! `tensorflow/core/framework/summary.proto`, and the record layout of `tensorflow/core/lib/io/record_writer.h`
//! (length, masked CRC-32C of the length, data, masked CRC-32C of the data).

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A PNG with its size, as an image summary wants it.
#[derive(Debug, Clone, Copy)]
pub struct EncodedImage<'a> {
    /// Pixels down.
    pub height_px: u32,
    /// Pixels across.
    pub width_px: u32,
    /// 1 gray, 3 RGB.
    pub colorspace: u32,
    /// The encoded file.
    pub png: &'a [u8],
}

/// How the names of event files begin.
const PREFIX: &str = "events.out.tfevents.";

/// An open event file.
#[derive(Debug)]
pub struct TensorBoardWriter {
    writer: BufWriter<File>,
    path: PathBuf,
}

impl TensorBoardWriter {
    /// Creates the file in `folder`; a run that goes on after `first_step` steps writes a further file, and the viewer drops
    /// what earlier files hold of later steps. Viewers read the files in the order of their names, so the name's second is
    /// later than that of every file that is there, whatever the clock says.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn create(folder: &Path, first_step: u64) -> io::Result<Self> {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs());
        let seconds = newest_second(folder)?.map_or(seconds, |newest| seconds.max(newest + 1));
        let path = folder.join(format!("{PREFIX}{seconds}.{first_step:010}.tap"));
        let mut file = Self {
            writer: BufWriter::new(File::create_new(&path)?),
            path,
        };
        let mut version = event(0);
        field_bytes(&mut version, 3, b"brain.Event:2");
        file.record(&version)?;
        let mut session_log = Vec::new();
        field_varint(&mut session_log, 1, 1); // SessionStatus.START
        // What has the step of this record or a later one is dropped, and the checkpoint's own step is to stay.
        let mut start = event(first_step + 1);
        field_bytes(&mut start, 7, &session_log);
        file.record(&start)?;
        Ok(file)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds scalars of one step.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn scalars(&mut self, step: u64, values: &[(impl AsRef<str>, f64)]) -> io::Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut entry = Vec::new();
            field_bytes(&mut entry, 1, tag.as_ref().as_bytes());
            field_fixed32(&mut entry, 2, (*value as f32).to_bits());
            field_bytes(&mut summary, 1, &entry);
        }
        self.summary(step, &summary)
    }

    /// Adds an image of one step.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn image(&mut self, step: u64, tag: &str, image: EncodedImage<'_>) -> io::Result<()> {
        let mut encoded = Vec::new();
        field_varint(&mut encoded, 1, u64::from(image.height_px));
        field_varint(&mut encoded, 2, u64::from(image.width_px));
        field_varint(&mut encoded, 3, u64::from(image.colorspace));
        field_bytes(&mut encoded, 4, image.png);
        let mut entry = Vec::new();
        field_bytes(&mut entry, 1, tag.as_bytes());
        field_bytes(&mut entry, 4, &encoded);
        let mut summary = Vec::new();
        field_bytes(&mut summary, 1, &entry);
        self.summary(step, &summary)
    }

    /// Flushes both files.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    fn summary(&mut self, step: u64, summary: &[u8]) -> io::Result<()> {
        let mut message = event(step);
        field_bytes(&mut message, 5, summary);
        self.record(&message)
    }

    fn record(&mut self, message: &[u8]) -> io::Result<()> {
        let length = (message.len() as u64).to_le_bytes();
        self.writer.write_all(&length)?;
        self.writer.write_all(&masked_crc32c(&length).to_le_bytes())?;
        self.writer.write_all(message)?;
        self.writer.write_all(&masked_crc32c(message).to_le_bytes())
    }
}

/// The latest second in the names of a folder's event files.
fn newest_second(folder: &Path) -> io::Result<Option<u64>> {
    let mut newest = None;
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let second = name.strip_prefix(PREFIX).and_then(|rest| rest.split('.').next());
        newest = newest.max(second.and_then(|second| second.parse().ok()));
    }
    Ok(newest)
}

/// An `Event` with its wall time (field 1, double) and step (field 2).
fn event(step: u64) -> Vec<u8> {
    let wall_time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |time| time.as_secs_f64());
    let mut message = vec![1 << 3 | 1];
    message.extend(wall_time.to_le_bytes());
    field_varint(&mut message, 2, step);
    message
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

fn field_varint(message: &mut Vec<u8>, field: u64, value: u64) {
    varint(message, field << 3);
    varint(message, value);
}

fn field_fixed32(message: &mut Vec<u8>, field: u64, bits: u32) {
    varint(message, field << 3 | 5);
    message.extend(bits.to_le_bytes());
}

fn field_bytes(message: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(message, field << 3 | 2);
    varint(message, bytes.len() as u64);
    message.extend(bytes);
}

fn masked_crc32c(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli, reflected), one nibble at a time: a few hundred kilobytes an hour need no table.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn crc_matches_its_published_check_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283, "RFC 3720, section B.4");
    }

    /// The records of a file, their check sums compared.
    fn read(path: &Path) -> Vec<Vec<u8>> {
        let bytes = std::fs::read(path).unwrap();
        let (mut position, mut records) = (0, Vec::new());
        while position < bytes.len() {
            let length = u64::from_le_bytes(bytes[position..position + 8].try_into().unwrap()) as usize;
            let data = &bytes[position + 12..position + 12 + length];
            let crc = u32::from_le_bytes(
                bytes[position + 12 + length..position + 16 + length]
                    .try_into()
                    .unwrap(),
            );
            assert_eq!(crc, masked_crc32c(data), "the data's check sum");
            records.push(data.to_vec());
            position += 16 + length;
        }
        records
    }

    #[test]
    fn records_are_framed_and_checked() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = TensorBoardWriter::create(folder.path(), 300).unwrap();
        file.scalars(300, &[("loss", 0.25)]).unwrap();
        file.flush().unwrap();
        let records = read(file.path());
        assert_eq!(records.len(), 3, "version, session start, one summary");
        assert!(
            records[0].ends_with(b"brain.Event:2"),
            "the first record names the version"
        );
        // step 300 as varint, then Summary{Value{tag "loss", simple_value 0.25}}
        let expected = [
            &[0x10, 0xac, 0x02, 0x2a, 13, 0x0a, 11, 0x0a, 4][..],
            b"loss",
            &[0x15, 0, 0, 0x80, 0x3e],
        ]
        .concat();
        assert_eq!(records[2][9..], expected, "the summary's bytes");
    }

    #[test]
    fn a_resumed_run_drops_later_steps_alone_and_its_file_sorts_last() {
        let folder = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        // Within one second, the second time further back, as from an older checkpoint.
        for first_step in [300, 4, 4] {
            let file = TensorBoardWriter::create(folder.path(), first_step).unwrap();
            paths.push(file.path().to_owned());
            drop(file);
            let start = &read(paths.last().unwrap())[1];
            let mut step = Vec::new();
            field_varint(&mut step, 2, first_step + 1);
            assert_eq!(start[9..9 + step.len()], step, "the first step that is dropped");
        }
        assert!(paths.is_sorted() && paths[1] != paths[2], "{paths:?}");
    }
}
