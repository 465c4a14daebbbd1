//! Does the system have any GPU at all? Asked before a driver is loaded, which takes longer than drawing many a mesh.
//!
//! The one place that looks at a file system, and at nothing but the system's own names of devices.

use std::path::Path;

/// What a GPU's driver in the kernel puts among devices: of Direct Rendering, NVIDIA, Windows beneath Linux, AMD's compute,
/// Tegra, Mali, Adreno.
const NODES: [&str; 8] = [
    "nvidiactl",
    "nvidia0",
    "dxg",
    "kfd",
    "nvmap",
    "nvhost-ctrl-gpu",
    "mali0",
    "kgsl-3d0",
];

/// May a GPU be found? `false` where there surely is none that a driver could use.
pub(crate) fn may_have_gpu() -> bool {
    !cfg!(target_os = "linux") || has_node(Path::new("/dev"))
}

fn has_node(devices: &Path) -> bool {
    let is_direct = |name: &str| name.starts_with("renderD") || name.starts_with("card");
    let has_direct = devices.join("dri").read_dir().is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_str().is_some_and(is_direct))
    });
    has_direct || NODES.iter().any(|name| devices.join(name).exists())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::{env, fs, process};

    use super::*;

    #[test]
    fn a_gpu_is_known_by_its_node() {
        let devices = env::temp_dir().join(format!("tap-devices-{}", process::id()));
        let is_found = |node: &str| {
            let path = devices.join(node);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, []).unwrap();
            let is_found = has_node(&devices);
            fs::remove_dir_all(&devices).unwrap();
            is_found
        };
        for node in ["dri/renderD128", "dri/card0", "nvidiactl", "dxg"] {
            assert!(is_found(node), "{node}");
        }
        for node in ["dri/by-path", "null"] {
            assert!(!is_found(node), "{node}");
        }
        assert!(!has_node(&devices), "no devices at all");
    }
}
