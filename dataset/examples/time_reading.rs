//! Reads and decodes the views of all rows on one thread, for `benches/peer/reading.py`, which times it as a whole process.
//!
//! `time_reading SHARDS PASSES` prints the rows of a pass, and the sum of the middle row of each first view. With `memory` behind
//! it the rows are read once, and what a pass takes is what decoding takes by itself.

use std::env;
use std::path::Path;
use std::sync::Arc;

use tap_dataset::{Dataset, DatasetError, Projection, Reader, Split, StreamSample, decode_gray_png_into};

/// The PNGs of a row.
type Pngs = Vec<Vec<u8>>;
/// Pixels of a row, and the width and height of a view.
type Pixels = (Vec<u8>, (u32, u32));

/// Rows of a pass, and the sum of their pixels.
#[derive(Default)]
struct Checksum {
    num_rows: u64,
    sum: u64,
}

impl Checksum {
    fn add(&mut self, (pixels, (width, height)): &Pixels) {
        let [width, height] = [*width as usize, *height as usize];
        let middle = &pixels[height / 2 * width..][..width];
        self.num_rows += 1;
        self.sum += middle.iter().map(|&value| u64::from(value)).sum::<u64>();
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (shards, passes, is_in_memory) = match &arguments[..] {
        [shards, passes] => (Path::new(shards), passes.parse()?, false),
        [shards, passes, memory] if memory == "memory" => (Path::new(shards), passes.parse()?, true),
        _ => return Err("usage: time_reading SHARDS PASSES [memory]".into()),
    };
    let mut rows: Vec<Pngs> = Vec::new();
    if is_in_memory {
        each_row(shards, |sample| Ok(pngs(sample).collect()), |row| rows.push(row))?;
    }
    let mut checksum = Checksum::default();
    for _ in 0..passes {
        checksum = Checksum::default();
        if is_in_memory {
            for row in &rows {
                checksum.add(&decode(row.iter().cloned())?);
            }
        } else {
            each_row(shards, |sample| decode(pngs(sample)), |row| checksum.add(&row))?;
        }
    }
    #[allow(clippy::print_stdout, reason = "an example prints")]
    {
        println!(
            "{}",
            serde_json::json!({ "rows": checksum.num_rows, "sum": checksum.sum })
        );
    }
    Ok(())
}

fn pngs(read: StreamSample) -> impl Iterator<Item = Vec<u8>> {
    read.sample.views.into_iter().map(|view| view.image_png)
}

fn decode(pngs: impl Iterator<Item = Vec<u8>>) -> Result<Pixels, DatasetError> {
    let (mut pixels, mut size_px) = (Vec::new(), (0, 0));
    for png in pngs {
        size_px = decode_gray_png_into(&png, &mut pixels)?;
    }
    Ok((pixels, size_px))
}

/// What `make` makes of the rows of all splits, in order.
fn each_row<T: Send + 'static>(
    shards: &Path,
    make: impl Fn(StreamSample) -> Result<T, DatasetError> + Send + Sync + Copy + 'static,
    mut take: impl FnMut(T),
) -> Result<(), DatasetError> {
    let dataset = Arc::new(Dataset::open(shards)?);
    for split in Split::ALL {
        if dataset.len(split) == 0 {
            continue;
        }
        let reader = Reader::new(Arc::clone(&dataset))
            .split(split)
            .columns(Projection::of_columns(["images"])?)
            .threads(1);
        for row in reader.stream_of(make, size_of_val)? {
            take(row?);
        }
    }
    Ok(())
}
