//! Rigs from JSON files: a list of poses, or the `views.json` of views that were rendered from them.
//!
//! A recipe holds the poses, never the name of the file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tap_render::{PoseDegrees, RigSpec};

use super::error::{Result, RigFileError, ViewFolderError};

/// Length limit: room for all poses that a rig may have, with the rest of a `views.json`.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Pose of a view in `views.json`.
#[derive(Deserialize)]
#[allow(clippy::struct_field_names, reason = "quantities say their unit")]
struct ViewPose {
    azimuth_deg: f64,
    elevation_deg: f64,
    roll_deg: f64,
}

/// Reads the rig of a JSON file: a list of poses with `azimuth_deg`, `elevation_deg` and `roll_deg`, or a `views.json`.
///
/// # Errors
/// When the file cannot be read or holds no poses.
pub fn read_rig(path: &Path) -> Result<RigSpec> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(ViewFolderError::io("read the poses in", path))?;
    parse(&bytes).map_err(|source| ViewFolderError::RigFile {
        path: path.to_owned(),
        source,
    })
}

fn parse(bytes: &[u8]) -> Result<RigSpec, RigFileError> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(RigFileError::TooLong {
            max_bytes: MAX_FILE_BYTES,
        });
    }
    let poses = match serde_json::from_slice(bytes)? {
        Value::Object(mut fields) if fields.contains_key("views") => {
            let views: Vec<ViewPose> = serde_json::from_value(fields["views"].take())?;
            let pose = |view: ViewPose| PoseDegrees {
                azimuth_deg: view.azimuth_deg,
                elevation_deg: view.elevation_deg,
                roll_deg: view.roll_deg,
            };
            views.into_iter().map(pose).collect()
        }
        list @ Value::Array(_) => serde_json::from_value(list)?,
        _ => return Err(RigFileError::NotPoses),
    };
    Ok(RigSpec::try_poses(poses)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_list_and_a_views_file_are_poses() {
        let spec = |text: &str| parse(text.as_bytes()).map(|spec| spec.to_string());
        let list = r#"[{"azimuth_deg": 10, "elevation_deg": 20.5}, {"azimuth_deg": 0, "elevation_deg": 90, "roll_deg": 5}]"#;
        assert_eq!(spec(list).unwrap(), "poses:10/20.5/0,0/90/5");
        let views = r#"{"recipe": {}, "views": [{"file": "a.png", "azimuth_deg": 1.0, "elevation_deg": 2.0, "roll_deg": 3.0}]}"#;
        assert_eq!(spec(views).unwrap(), "poses:1/2/3");
        for text in [
            "",
            "[]",
            "3",
            "{}",
            r#"{"views": 3}"#,
            r#"[{"azimuth_deg": 10}]"#,
            r#"[{"azimuth_deg": 10, "elevation_deg": 20, "rol_deg": 5}]"#,
        ] {
            assert!(spec(text).is_err(), "{text}");
        }
    }
}
