//! A machine without any Vulkan driver: the CPU draws, and a request for wgpu says what to install.

#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use tap_render::{BackendChoice, DeviceError, RenderError, Renderer, RendererOptions, list_adapters};

/// Set in the child process that must find no driver; the loader reads its variables only at its start.
const IS_WITHOUT_DRIVER: &str = "TAP_TEST_WITHOUT_DRIVER";

#[test]
fn without_a_driver_the_error_says_what_to_install() {
    if env::var_os(IS_WITHOUT_DRIVER).is_some() {
        let renderer = Renderer::try_new(&RendererOptions::default()).unwrap();
        assert_eq!(renderer.adapter().backend, "cpu", "who needs no driver draws");
        assert_eq!(
            list_adapters(),
            [renderer.adapter().clone()],
            "and nobody else is there"
        );
        let error = Renderer::try_new(&RendererOptions {
            backend: BackendChoice::Wgpu,
            ..RendererOptions::default()
        })
        .unwrap_err();
        assert!(
            matches!(error, RenderError::Device(DeviceError::NoAdapter)),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .contains("apt-get install mesa-vulkan-drivers libvulkan1"),
            "{error}"
        );
        assert_eq!(error.to_string().lines().count(), 1, "one line");
        return;
    }
    let output = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "no_driver::without_a_driver_the_error_says_what_to_install",
        ])
        .env(IS_WITHOUT_DRIVER, "1")
        .env("VK_DRIVER_FILES", "/nonexistent.json")
        .env("VK_ICD_FILENAMES", "/nonexistent.json")
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}");
}

/// Set in the child process that chooses freely.
const IS_FRESH: &str = "TAP_TEST_FRESH";

#[test]
fn no_driver_is_loaded_where_there_is_no_gpu() {
    let may_have_gpu = ["/dev/dri", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd", "/dev/nvmap"]
        .iter()
        .any(|node| Path::new(node).exists());
    if may_have_gpu {
        return;
    }
    if env::var_os(IS_FRESH).is_some() {
        let is_loaded = || {
            fs::read_to_string("/proc/self/maps")
                .unwrap()
                .contains("libvulkan")
        };
        let renderer = Renderer::try_new(&RendererOptions::default()).unwrap();
        assert_eq!(renderer.adapter().backend, "cpu", "the CPU draws");
        assert!(!is_loaded(), "a driver is loaded");
        let adapters = list_adapters();
        assert_eq!(
            adapters[0],
            *renderer.adapter(),
            "the list begins with what is chosen"
        );
        if adapters.len() > 1 {
            let _device = Renderer::try_new(&RendererOptions {
                backend: BackendChoice::Wgpu,
                ..RendererOptions::default()
            })
            .unwrap();
            assert!(is_loaded(), "a driver that is in use is seen");
        }
        return;
    }
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "no_driver::no_driver_is_loaded_where_there_is_no_gpu"])
        .env(IS_FRESH, "1")
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}");
}
