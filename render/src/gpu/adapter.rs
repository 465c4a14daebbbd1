//! Enumerates adapters and opens a device. Mesa's lavapipe, a Vulkan driver in software, is one of the adapters.

use std::sync::{Arc, Mutex, PoisonError};

use super::timestamp::TimestampQueries;
use crate::adapter::{AdapterChoice, AdapterKind, AdapterReport};
use crate::error::DeviceError;

/// Graphics APIs that the renderer uses.
const BACKENDS: wgpu::Backends = wgpu::Backends::PRIMARY;

impl From<wgpu::AdapterInfo> for AdapterReport {
    fn from(info: wgpu::AdapterInfo) -> Self {
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => AdapterKind::DiscreteGpu,
            wgpu::DeviceType::IntegratedGpu => AdapterKind::IntegratedGpu,
            wgpu::DeviceType::VirtualGpu => AdapterKind::VirtualGpu,
            wgpu::DeviceType::Cpu => AdapterKind::Cpu,
            wgpu::DeviceType::Other => AdapterKind::Other,
        };
        let backend = info.backend.to_str().to_owned();
        Self {
            name: info.name,
            driver: info.driver,
            driver_info: info.driver_info,
            backend,
            kind,
        }
    }
}

/// The adapters of this machine in order of preference. Empty if there is no driver.
pub(crate) fn list_devices() -> Vec<AdapterReport> {
    sorted_adapters().into_iter().map(|(report, _)| report).collect()
}

fn sorted_adapters() -> Vec<(AdapterReport, wgpu::Adapter)> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = BACKENDS;
    let instance = wgpu::Instance::new(descriptor);
    let adapters = pollster::block_on(instance.enumerate_adapters(BACKENDS));
    let mut adapters: Vec<_> = adapters
        .into_iter()
        .map(|adapter| (AdapterReport::from(adapter.get_info()), adapter))
        .collect();
    adapters.sort_by_key(|(report, _)| report.kind);
    adapters
}

/// An open device, and the first error that it reported.
#[derive(Debug)]
pub(crate) struct Gpu {
    pub(crate) report: AdapterReport,
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    faults: Arc<Mutex<Option<DeviceError>>>,
}

impl Gpu {
    pub(crate) fn try_new(choice: &AdapterChoice) -> Result<Self, DeviceError> {
        let (report, adapter) = choose(sorted_adapters(), choice)?;
        Self::open(report, &adapter)
    }

    /// The preferred GPU, or `None` if there is only software.
    pub(crate) fn try_best() -> Result<Option<Self>, DeviceError> {
        match sorted_adapters().into_iter().next() {
            Some((report, adapter)) if report.kind < AdapterKind::Cpu => {
                Self::open(report, &adapter).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn open(report: AdapterReport, adapter: &wgpu::Adapter) -> Result<Self, DeviceError> {
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("tap-render"),
            // Large meshes need large buffers.
            required_limits: adapter.limits(),
            required_features: adapter.features() & TimestampQueries::FEATURES,
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) =
            pollster::block_on(adapter.request_device(&descriptor)).map_err(|source| DeviceError::Open {
                adapter: report.name.clone(),
                source,
            })?;
        let faults = Arc::new(Mutex::new(None));
        // By default wgpu panics.
        let fault_slot = Arc::clone(&faults);
        device.on_uncaptured_error(Arc::new(move |error| {
            keep_first(
                &fault_slot,
                match error {
                    wgpu::Error::OutOfMemory { .. } => DeviceError::OutOfMemory,
                    source => DeviceError::Command { source },
                },
            );
        }));
        let fault_slot = Arc::clone(&faults);
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                keep_first(&fault_slot, DeviceError::Lost { reason: message });
            }
        });
        Ok(Self {
            report,
            device,
            queue,
            faults,
        })
    }

    /// The first error since the last call.
    pub(crate) fn check(&self) -> Result<(), DeviceError> {
        match self.faults.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// Keeps the first error, which caused those that follow.
fn keep_first(faults: &Mutex<Option<DeviceError>>, error: DeviceError) {
    faults
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get_or_insert(error);
}

fn choose<T>(
    adapters: Vec<(AdapterReport, T)>,
    choice: &AdapterChoice,
) -> Result<(AdapterReport, T), DeviceError> {
    if adapters.is_empty() {
        return Err(DeviceError::NoAdapter);
    }
    let found = adapters
        .iter()
        .map(|(report, _)| report.name.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    let is_chosen = |report: &AdapterReport| match choice {
        AdapterChoice::Auto => true,
        AdapterChoice::Software => report.kind == AdapterKind::Cpu,
        AdapterChoice::Name(wanted) => report.name.to_lowercase().contains(&wanted.to_lowercase()),
    };
    adapters
        .into_iter()
        .find(|(report, _)| is_chosen(report))
        .ok_or_else(|| match choice {
            AdapterChoice::Name(wanted) => DeviceError::NoSuchAdapter {
                wanted: wanted.clone(),
                found,
            },
            AdapterChoice::Auto | AdapterChoice::Software => DeviceError::NoSoftwareAdapter { found },
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn adapters(list: &[(&str, AdapterKind)]) -> Vec<(AdapterReport, ())> {
        let report = |&(name, kind): &(&str, AdapterKind)| AdapterReport {
            name: name.to_owned(),
            driver: "driver".to_owned(),
            driver_info: "1".to_owned(),
            backend: "vulkan".to_owned(),
            kind,
        };
        list.iter().map(|entry| (report(entry), ())).collect()
    }

    fn chosen(list: &[(&str, AdapterKind)], choice: &AdapterChoice) -> Result<String, String> {
        choose(adapters(list), choice)
            .map(|(report, ())| report.name)
            .map_err(|error| error.to_string())
    }

    const BOTH: [(&str, AdapterKind); 2] =
        [("Card", AdapterKind::DiscreteGpu), ("llvmpipe", AdapterKind::Cpu)];

    #[test]
    fn the_first_adapter_is_chosen_by_default() {
        assert_eq!(chosen(&BOTH, &AdapterChoice::Auto), Ok("Card".to_owned()));
        assert_eq!(
            chosen(&BOTH[1..], &AdapterChoice::Auto),
            Ok("llvmpipe".to_owned())
        );
        assert_eq!(chosen(&BOTH, &AdapterChoice::Software), Ok("llvmpipe".to_owned()));
        assert_eq!(
            chosen(&BOTH, &AdapterChoice::Name("LLVM".to_owned())),
            Ok("llvmpipe".to_owned())
        );
    }

    #[test]
    fn errors_say_what_to_install() {
        let error = chosen(&[], &AdapterChoice::Auto).unwrap_err();
        assert!(
            error.contains("apt-get install mesa-vulkan-drivers libvulkan1"),
            "{error}"
        );
        let error = chosen(&BOTH[..1], &AdapterChoice::Software).unwrap_err();
        assert!(
            error.contains("mesa-vulkan-drivers") && error.contains("Card"),
            "{error}"
        );
        let error = chosen(&BOTH, &AdapterChoice::Name("other".to_owned())).unwrap_err();
        assert_eq!(error, "no adapter is named like 'other', found Card, llvmpipe");
    }

    #[test]
    fn better_kinds_sort_first() {
        assert!(
            AdapterKind::DiscreteGpu < AdapterKind::IntegratedGpu,
            "discrete before integrated"
        );
        assert!(
            AdapterKind::VirtualGpu < AdapterKind::Cpu,
            "any GPU before the CPU"
        );
    }
}
