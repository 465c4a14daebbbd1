//! Verification of a feature set: hashes, ids and every number.

use std::path::Path;

use super::reader::FeatureFile;
use super::writer::check_row;
use super::{FEATURE_MANIFEST_FILE_NAME, FEATURE_SETS, FeatureManifest, FeatureShard, feature_set_dir};
use crate::error::{Result, error_chain};
use crate::manifest::{Manifest, ShardEntry};
use crate::pipeline::{num_threads, parallel_map};
use crate::shard::{ShardReader, ViewSelection};
use crate::store::{self, SharedFile};

/// A problem: the file within the dataset, the row where it is of one, and what is wrong.
pub(crate) type FeatureProblem = (String, Option<usize>, String);

/// Reads everything of a feature set and compares it with its manifest and the dataset's rows.
///
/// # Errors
/// When threads cannot be started; what is wrong with the set is in the list.
pub(crate) fn check_feature_set(dir: &Path, name: &str, dataset: &Manifest) -> Result<Vec<FeatureProblem>> {
    let file_name = |file: &str| format!("{FEATURE_SETS}/{name}/{file}");
    let manifest = match FeatureManifest::read_complete(dir, name, dataset) {
        Ok(manifest) => manifest,
        Err(e) => {
            return Ok(vec![(
                file_name(FEATURE_MANIFEST_FILE_NAME),
                None,
                error_chain(&e),
            )]);
        }
    };
    let set_dir = feature_set_dir(dir, name)?;
    let check = |i: usize| {
        let (shard, rows) = (&manifest.shards[i], &dataset.shards[i]);
        let problems = check_file(&set_dir, shard, &manifest, (dir, rows, dataset));
        let with_file = problems
            .into_iter()
            .map(|(row, detail)| (file_name(&shard.file), row, detail));
        with_file.collect::<Vec<_>>()
    };
    let problems = parallel_map(num_threads(0), manifest.shards.len(), check, || {})?;
    Ok(problems.into_iter().flatten().collect())
}

fn check_file(
    set_dir: &Path,
    expected: &FeatureShard,
    manifest: &FeatureManifest,
    (dir, rows, dataset): (&Path, &ShardEntry, &Manifest),
) -> Vec<(Option<usize>, String)> {
    let path = set_dir.join(&expected.file);
    let (sha256, file) = match store::fetch(&path) {
        Ok(fetched) => fetched,
        Err(e) => return vec![(None, e.to_string())],
    };
    let mut problems = Vec::new();
    if sha256 != expected.sha256 {
        let detail = "its content was changed: the hash does not match the manifest";
        problems.push((None, detail.to_owned()));
    }
    let opened = FeatureFile::open(SharedFile::Kept(file), &path, expected, manifest.layout)
        .and_then(|file| Ok((file, ShardReader::open_of(dataset, &dir.join(&rows.file))?.ids()?)));
    let (file, ids) = match opened {
        Ok(opened) => opened,
        Err(e) => {
            problems.push((None, error_chain(&e)));
            return problems;
        }
    };
    for (row, id) in ids.iter().enumerate().take(expected.rows) {
        let found = file.read(row, ViewSelection::All).and_then(|found| {
            check_row(&found, &manifest.layout)?;
            Ok(found.id)
        });
        match found {
            Ok(found) if found == *id => {}
            Ok(found) => problems.push((Some(row), format!("{found} instead of {id}"))),
            Err(e) => problems.push((Some(row), error_chain(&e))),
        }
    }
    problems
}
