//! Sweeps: rows of settings, each pre-trained and scored under several seeds, beside published figures (`docs/training.md`,
//! "Sweeps"; `docs/protocols.md`, "Sweeps").
//!
//! Nothing here runs anything: the program runs each pre-training and each task as a command of its own.

mod result;
mod spec;

pub use result::{ColumnScore, RowResult, RunRecord, SweepResult};
pub use spec::{
    DataSource, Labels, Need, PRETRAIN, REPRODUCTIONS, Row, SWEEPS, Score, ScoreOf, Sweep, SweepFile, TABLES,
    Task, TaskCommand,
};
