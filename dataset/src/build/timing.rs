//! Where a build's time goes: the CPU time of each stage, on whichever thread it ran, and the clock on the wall.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::parallel::num_threads;

/// The stages of a build, in the order in which an object passes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Bytes of the file, their hash, a checked mesh.
    Parse,
    /// Points of the surface.
    Sample,
    /// Normalization, silhouettes and cameras, and what is wrong with the mesh.
    Frame,
    Draw,
    /// Pictures and masks, and the checks of a row.
    Encode,
    /// Rows to Parquet, hashes, the disk or the store.
    Write,
}

impl Stage {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Parse, "parse"),
        (Self::Sample, "sample"),
        (Self::Frame, "frame"),
        (Self::Draw, "draw"),
        (Self::Encode, "encode"),
        (Self::Write, "write"),
    ];
}

/// What a build took.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BuildTimings {
    /// Seconds on the wall, from the first mesh on.
    pub wall_s: f64,
    /// Seconds of CPU of the whole program in that time; those of a graphics driver's own threads are in here alone.
    pub cpu_s: f64,
    /// Threads that could work at once: workers or cores, whichever are fewer.
    pub num_threads: usize,
    /// The stages in order, with their seconds of CPU.
    pub stages: Vec<StageTiming>,
    /// The most memory that the program ever had; `None` where the system doesn't say.
    pub peak_memory_bytes: Option<u64>,
}

/// What one stage took, all objects together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageTiming {
    /// Which.
    pub stage: &'static str,
    /// Its seconds of CPU.
    pub cpu_s: f64,
}

impl BuildTimings {
    /// No build of these stages takes less on the wall: their CPU time, shared by all threads.
    #[must_use]
    pub fn bound_s(&self) -> f64 {
        self.stages.iter().map(|stage| stage.cpu_s).sum::<f64>() / self.num_threads.max(1) as f64
    }
}

/// Counts the CPU time of the stages, from all threads.
#[derive(Debug)]
pub(super) struct StageClock {
    started: Instant,
    cpu_before: Duration,
    nanos: [AtomicU64; Stage::ALL.len()],
}

impl StageClock {
    pub(super) fn start() -> Self {
        Self {
            started: Instant::now(),
            cpu_before: cpu_time(Whose::Program),
            nanos: Default::default(),
        }
    }

    /// Does a stage's work on this thread.
    pub(super) fn time<T>(&self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let before = cpu_time(Whose::Thread);
        let done = work();
        let took = cpu_time(Whose::Thread).saturating_sub(before);
        self.nanos[stage as usize].fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
        done
    }

    pub(super) fn timings(&self, num_workers: usize) -> BuildTimings {
        let num_cores = num_threads(0);
        let stages = Stage::ALL
            .iter()
            .zip(&self.nanos)
            .map(|((_, stage), nanos)| StageTiming {
                stage,
                cpu_s: nanos.load(Ordering::Relaxed) as f64 * 1e-9,
            });
        BuildTimings {
            wall_s: self.started.elapsed().as_secs_f64(),
            cpu_s: cpu_time(Whose::Program)
                .saturating_sub(self.cpu_before)
                .as_secs_f64(),
            num_threads: num_workers.min(num_cores),
            stages: stages.collect(),
            peak_memory_bytes: crate::plan::peak_memory_bytes(),
        }
    }
}

#[derive(Clone, Copy)]
enum Whose {
    Thread,
    Program,
}

/// CPU time so far; where the system doesn't say, time on the wall.
fn cpu_time(whose: Whose) -> Duration {
    #[cfg(unix)]
    {
        use rustix::time::{ClockId, clock_gettime};
        let clock = match whose {
            Whose::Thread => ClockId::ThreadCPUTime,
            Whose::Program => ClockId::ProcessCPUTime,
        };
        clock_gettime(clock).try_into().unwrap_or_default()
    }
    #[cfg(not(unix))]
    {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        let _ = whose;
        START.get_or_init(Instant::now).elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_counts_its_own_work_and_no_waiting() {
        let clock = StageClock::start();
        clock.time(Stage::Write, || std::thread::sleep(Duration::from_millis(30)));
        clock.time(Stage::Draw, || {
            let started = Instant::now();
            let mut sum = 0_u64;
            while started.elapsed() < Duration::from_millis(30) {
                sum = std::hint::black_box(sum + 1);
            }
        });
        let timings = clock.timings(1);
        let of = |name| {
            timings
                .stages
                .iter()
                .find(|stage| stage.stage == name)
                .map(|s| s.cpu_s)
        };
        assert!(timings.wall_s >= 0.06, "{timings:?}");
        assert!(
            of("draw") > of("write") && of("parse") == Some(0.0),
            "{timings:?}"
        );
        assert!((timings.bound_s() - timings.stages.iter().map(|s| s.cpu_s).sum::<f64>()).abs() < 1e-9);
    }
}
