//! Reads and decodes the views of all rows on one thread, for `benches/peer/reading.py`, which times it as a whole process.
//!
//! `time_reading SHARDS PASSES` prints the rows of a pass, and the sum of the middle row of each first view.

use std::env;
use std::path::Path;
use std::sync::Arc;

use tap_dataset::{Dataset, Projection, Reader, Split, StreamSample, decode_gray_png_into};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [shards, passes] = &arguments[..] else {
        return Err("usage: time_reading SHARDS PASSES".into());
    };
    let (mut num_rows, mut sum) = (0_u64, 0_u64);
    for _ in 0..passes.parse()? {
        (num_rows, sum) = (0, 0);
        let dataset = Arc::new(Dataset::open(Path::new(shards))?);
        for split in Split::ALL {
            if dataset.len(split) == 0 {
                continue;
            }
            let decode = |read: StreamSample| {
                let mut pixels = Vec::new();
                let mut size_px = (0, 0);
                for view in &read.sample.views {
                    size_px = decode_gray_png_into(&view.image_png, &mut pixels)?;
                }
                Ok((size_px.0 as usize, size_px.1 as usize, pixels))
            };
            let images = Reader::new(Arc::clone(&dataset))
                .split(split)
                .columns(Projection::of_columns(["images"])?)
                .threads(1)
                .stream_of(decode, |(_, _, pixels)| pixels.len())?;
            for image in images {
                let (width, height, pixels) = image?;
                let middle = &pixels[height / 2 * width..][..width];
                num_rows += 1;
                sum += middle.iter().map(|&value| u64::from(value)).sum::<u64>();
            }
        }
    }
    #[allow(clippy::print_stdout, reason = "an example prints")]
    {
        println!("{}", serde_json::json!({ "rows": num_rows, "sum": sum }));
    }
    Ok(())
}
