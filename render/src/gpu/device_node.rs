//! Detects whether the system has a GPU at all, before a driver is loaded: that takes longer than drawing many a mesh.
//!
//! This is the only code of the crate that looks at the file system, and it looks at device nodes only.

use std::path::Path;

/// Device nodes of GPU drivers: NVIDIA, WSL, AMD compute, Tegra, Mali, Adreno.
const GPU_DEVICE_NODES: [&str; 8] = [
    "nvidiactl",
    "nvidia0",
    "dxg",
    "kfd",
    "nvmap",
    "nvhost-ctrl-gpu",
    "mali0",
    "kgsl-3d0",
];

/// `false` only if there is surely no GPU that a driver could use.
pub(crate) fn may_have_gpu() -> bool {
    !cfg!(target_os = "linux") || has_node(Path::new("/dev"))
}

fn has_node(devices: &Path) -> bool {
    let is_drm_node = |name: &str| name.starts_with("renderD") || name.starts_with("card");
    let has_drm = devices.join("dri").read_dir().is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_str().is_some_and(is_drm_node))
    });
    has_drm || GPU_DEVICE_NODES.iter().any(|name| devices.join(name).exists())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::{env, fs, process};

    use super::*;

    #[test]
    fn gpus_are_detected_by_device_node() {
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
