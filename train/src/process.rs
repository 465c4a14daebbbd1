//! Process-wide state: memory allocator, threads, CPU time, loading libtorch's CUDA library.
//!
//! The only `unsafe` of this crate outside `ops` is here: calls of the C library and one of the dynamic loader.

use tch::{Cuda, Device};

use crate::error::TrainError;

/// From this size on a block is mapped on its own; the largest threshold that glibc accepts.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_BLOCK_BYTES: libc::c_int = 32 << 20;

/// Configures glibc's allocator to keep freed memory, except very large blocks.
///
/// By default every large tensor is a fresh mapping of the kernel, returned when freed: a fifth of the time of a small
/// training step goes into page faults. What is kept, however, cannot be used for an aligned block of the same size (glibc
/// looks for one larger by the alignment), so between the tensors of a paper-size model, tens of megabytes each, holes
/// would stay: a third of the memory. Those are mapped and returned, in huge pages where [`reexec_with_environment`] could ask for
/// them. Other allocators are left alone. Call it before the first tensor exists.
#[allow(
    unsafe_code,
    reason = "mallopt is how glibc's thresholds are set from inside a process"
)]
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt only stores numbers inside the allocator, under its own lock; all keys take any such value.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BLOCK_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TOP_PAD, 256 << 20);
    }
}

/// Environment variables that libraries read before `main`: for each setting the variables by which a user may have
/// decided otherwise, of which the first is the one to set, and its value.
///
/// - OpenMP: spins of a waiting thread before it sleeps, about a tenth of a millisecond: longer than the gap between two
///   operations of a small network, shorter than a time slice of another process.
/// - glibc: huge pages, where the kernel leaves that to the program: a page fault for two megabytes instead of four
///   kilobytes.
const TUNING: [(&[&str], &str); 2] = [
    (&["GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"], "20000"),
    (&["GLIBC_TUNABLES"], "glibc.malloc.hugetlb=1"),
];

/// Re-executes this program, once, with environment variables such that OpenMP threads spin briefly while they wait for
/// each other, then sleep, and memory comes in huge pages.
///
/// By default threads spin for milliseconds. On shared cores a spinning thread takes the time of the one it waits for: with
/// twelve processes on two cores a training step was seventeen times as slow. Without any spinning the second of two idle
/// cores is of no use. libgomp and glibc read these variables before `main`, hence the second start. Variables that the
/// user has set are kept.
pub fn reexec_with_environment() {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt as _;
        let is_open = |names: &[&str]| names.iter().all(|name| std::env::var_os(name).is_none());
        let missing: Vec<(&str, &str)> = TUNING
            .into_iter()
            .filter(|(names, _)| is_open(names))
            .map(|(names, value)| (names[0], value))
            .collect();
        if missing.is_empty() {
            return;
        }
        if let Ok(program) = std::env::current_exe() {
            // It only returns if it failed; then threads spin, which is slower and nothing else.
            let _ = std::process::Command::new(program)
                .args(std::env::args_os().skip(1))
                .envs(missing)
                .exec();
        }
    }
}

/// CPU seconds that all threads of this process have used.
#[must_use]
#[allow(unsafe_code, reason = "the standard library has no clock of CPU time")]
pub fn cpu_s() -> f64 {
    #[cfg(unix)]
    {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the pointer is to a local that lives through the call.
        let status = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
        if status == 0 {
            return time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9;
        }
    }
    0.0
}

/// Cores that this process may use.
#[must_use]
pub fn num_cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Sets how many threads torch and rayon compute with; 0 is all cores. Returns the number, which is smaller where the
/// system starts fewer.
///
/// Call it once, before the first operation.
#[expect(clippy::must_use_candidate, reason = "called for its effect")]
pub fn set_num_threads(num_threads: usize) -> usize {
    let num_threads = if num_threads == 0 {
        num_cores()
    } else {
        num_threads
    };
    let num_started = start_pool(num_threads);
    // Libtorch starts its threads later, and ends the program where the system refuses one.
    tch::set_num_threads(num_started as i32);
    num_started
}

/// Starts rayon's threads: half as many, and so on, where the system refuses that many. Returns how many were started. A pool
/// that exists already keeps its size; that can only happen in tests.
fn start_pool(num_threads: usize) -> usize {
    let pool = |num_threads| rayon::ThreadPoolBuilder::new().num_threads(num_threads);
    let mut num_started = num_threads;
    // Rayon gives its global pool one try only.
    while num_started > 1 && pool(num_started).build().is_err() {
        num_started /= 2;
    }
    if num_started < num_threads {
        tracing::warn!(
            "could only start {num_started} of {num_threads} threads; ask for fewer with --threads"
        );
    }
    let _ = pool(num_started).build_global();
    num_started
}

/// Loads libtorch's CUDA library from the folder of its CPU library, so that one program serves both.
///
/// A program linked to the CPU library alone has no CUDA kernels until then: they register themselves when loaded.
/// Returns whether a CUDA device can be used.
#[expect(clippy::must_use_candidate, reason = "called for its effect")]
#[allow(unsafe_code, reason = "loading a library runs its initializers")]
pub fn load_cuda() -> bool {
    #[cfg(target_os = "linux")]
    {
        use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
        let folder = libtorch_file().and_then(|file| file.parent().map(std::path::Path::to_owned));
        let beside = folder
            .map(|folder| folder.join("libtorch_cuda.so"))
            .filter(|path| path.is_file());
        // SAFETY: the library is the counterpart of the libtorch that is linked and lies in its folder; its initializers
        // register kernels and nothing else.
        let library =
            beside.and_then(|path| unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }.ok());
        if let Some(library) = library {
            // Registered kernels point into it, so it has to stay.
            std::mem::forget(library);
        }
    }
    Cuda::is_available()
}

/// The file of libtorch that is loaded.
#[must_use]
pub fn libtorch_file() -> Option<std::path::PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines()
        .filter_map(|line| line.find('/').map(|start| &line[start..]))
        .find(|path| path.contains("libtorch_cpu."))
        .map(std::path::PathBuf::from)
}

/// `auto`, `cpu`, `cuda` or `cuda:N`.
///
/// # Errors
/// Where the device does not exist.
pub fn parse_device(name: &str) -> Result<Device, TrainError> {
    let has_cuda = if name == "cpu" { false } else { load_cuda() };
    let unusable = |reason: &str| TrainError::Device {
        device: name.to_owned(),
        reason: reason.to_owned(),
    };
    match name {
        "auto" => Ok(if has_cuda { Device::Cuda(0) } else { Device::Cpu }),
        "cpu" => Ok(Device::Cpu),
        _ => {
            let index = match name.strip_prefix("cuda") {
                Some("") => 0,
                Some(rest) => rest
                    .strip_prefix(':')
                    .and_then(|index| index.parse().ok())
                    .ok_or_else(|| unusable("names are auto, cpu, cuda and cuda:N"))?,
                None => return Err(unusable("names are auto, cpu, cuda and cuda:N")),
            };
            if !has_cuda {
                return Err(unusable(
                    "this libtorch has no CUDA part, or there is no CUDA device",
                ));
            }
            if index as i64 >= Cuda::device_count() {
                return Err(unusable("there are fewer CUDA devices"));
            }
            Ok(Device::Cuda(index))
        }
    }
}

/// The name of a device.
#[must_use]
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => String::from("cpu"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_as_they_are_parsed() {
        assert!(matches!(parse_device("cpu"), Ok(Device::Cpu)), "cpu");
        for wrong in ["gpu", "cuda:x", "cuda1", "cuda:99"] {
            let error = parse_device(wrong).map(device_name);
            assert!(error.is_err(), "{wrong}: {error:?}");
        }
    }

    #[test]
    fn cpu_time_goes_on() {
        let before = cpu_s();
        let sum: f64 = (0..3_000_000).map(f64::from).map(f64::sqrt).sum();
        assert!(sum > 0.0 && cpu_s() > before, "work takes time");
    }
}
