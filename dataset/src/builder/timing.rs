//! Build timings: CPU time per stage over all threads, and wall-clock time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use strum::{EnumCount as _, VariantArray as _};

use crate::pipeline::num_threads;

/// Build stages, in processing order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumCount, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "lowercase")]
pub(super) enum Stage {
    /// Reading, hashing and importing the mesh.
    Parse,
    /// Surface sampling.
    Sample,
    /// Normalization, silhouettes, cameras and mesh checks.
    Frame,
    Draw,
    /// Image and mask encoding, and row checks.
    Encode,
    /// Parquet encoding, hashing, and writing.
    Write,
}

/// Time and memory of a build.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BuildTimings {
    /// Wall-clock seconds from the first mesh on.
    pub wall_s: f64,
    /// CPU seconds of the process in that time, including graphics driver threads.
    pub cpu_s: f64,
    /// Threads that can run at once: the smaller of workers and cores.
    pub num_threads: usize,
    /// CPU seconds per stage, in order.
    pub stages: Vec<StageTiming>,
    /// Peak resident memory of the process; `None` where the system does not report it.
    pub peak_memory_bytes: Option<u64>,
}

/// CPU time of one stage over all objects.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageTiming {
    /// Stage name.
    pub stage: &'static str,
    /// CPU seconds.
    pub cpu_s: f64,
}

impl BuildTimings {
    /// Lower bound on wall-clock seconds: CPU time of all stages divided by threads.
    #[must_use]
    pub fn lower_bound_s(&self) -> f64 {
        self.stages.iter().map(|stage| stage.cpu_s).sum::<f64>() / self.num_threads.max(1) as f64
    }
}

/// Accumulates CPU time per stage across threads.
#[derive(Debug)]
pub(super) struct StageClock {
    started: Instant,
    cpu_before: Duration,
    nanos: [AtomicU64; Stage::COUNT],
}

impl StageClock {
    pub(super) fn start() -> Self {
        Self {
            started: Instant::now(),
            cpu_before: cpu_time(CpuClock::Process),
            nanos: Default::default(),
        }
    }

    /// Runs `work` on this thread and adds its CPU time to `stage`.
    pub(super) fn time<T>(&self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let before = cpu_time(CpuClock::Thread);
        let done = work();
        let elapsed = cpu_time(CpuClock::Thread).saturating_sub(before);
        self.nanos[stage as usize].fetch_add(elapsed.as_nanos() as u64, Ordering::Relaxed);
        done
    }

    pub(super) fn timings(&self, num_workers: usize) -> BuildTimings {
        let num_cores = num_threads(0);
        let stages = Stage::VARIANTS
            .iter()
            .zip(&self.nanos)
            .map(|(stage, nanos)| StageTiming {
                stage: stage.into(),
                cpu_s: nanos.load(Ordering::Relaxed) as f64 * 1e-9,
            });
        BuildTimings {
            wall_s: self.started.elapsed().as_secs_f64(),
            cpu_s: cpu_time(CpuClock::Process)
                .saturating_sub(self.cpu_before)
                .as_secs_f64(),
            num_threads: num_workers.min(num_cores),
            stages: stages.collect(),
            peak_memory_bytes: crate::builder::plan::peak_memory_bytes(),
        }
    }
}

#[derive(Clone, Copy)]
enum CpuClock {
    Thread,
    Process,
}

/// CPU time so far; wall-clock time where the system does not report it.
fn cpu_time(clock: CpuClock) -> Duration {
    #[cfg(unix)]
    {
        use rustix::time::{ClockId, clock_gettime};
        let clock = match clock {
            CpuClock::Thread => ClockId::ThreadCPUTime,
            CpuClock::Process => ClockId::ProcessCPUTime,
        };
        clock_gettime(clock).try_into().unwrap_or_default()
    }
    #[cfg(not(unix))]
    {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        let _ = clock;
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
        assert!((timings.lower_bound_s() - timings.stages.iter().map(|s| s.cpu_s).sum::<f64>()).abs() < 1e-9);
    }
}
