//! Reports on datasets: summaries, verification, mesh quality and near-duplicates.

mod icp;
mod inspect;
mod mesh_report;
mod near_duplicates;
mod orientation;
mod shard_scan;
mod verify;

pub use inspect::{ClassCount, FeatureSetSummary, ImageSetSummary, Inspection, inspect};
pub use mesh_report::{CategoryReport, MeshReport, ObjectReport, report};
pub use near_duplicates::{
    DEFAULT_DUPLICATE_DISTANCE, DuplicateKind, DuplicatePair, NearDuplicateEvent, NearDuplicateReport,
    ObjectRef, find_near_duplicates,
};
pub use verify::{Problem, VerifyEvent, VerifyOptions, VerifyReport, verify};
