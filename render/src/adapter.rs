//! Adapters as users choose them and as outputs record them.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::parse::ParseError;

/// Which adapter to render with. On a command line: `auto`, `software`, or a part of its name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AdapterChoice {
    /// The first in the order of [`AdapterKind`]: a discrete GPU, else an integrated or virtual one, else a software
    /// driver.
    #[default]
    Auto,
    /// A software driver, even where there is a GPU.
    Software,
    /// The first adapter whose name contains this text, ignoring case.
    Name(String),
}

impl FromStr for AdapterChoice {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text {
            "" => Err(ParseError {
                what: "adapter",
                expected: "auto, software or a name",
                found: String::new(),
            }),
            "auto" => Ok(Self::Auto),
            "software" => Ok(Self::Software),
            name => Ok(Self::Name(name.to_owned())),
        }
    }
}

impl fmt::Display for AdapterChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Software => "software",
            Self::Name(name) => name,
        })
    }
}

/// Kind of hardware behind an adapter, in order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AdapterKind {
    /// A graphics card with its own memory.
    DiscreteGpu,
    /// A GPU that shares memory with the CPU.
    IntegratedGpu,
    /// A GPU passed through to a virtual machine.
    VirtualGpu,
    /// The CPU, through a software driver.
    Cpu,
    /// Not reported by the driver.
    Other,
}

impl fmt::Display for AdapterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DiscreteGpu => "discrete GPU",
            Self::IntegratedGpu => "integrated GPU",
            Self::VirtualGpu => "virtual GPU",
            Self::Cpu => "CPU",
            Self::Other => "other",
        })
    }
}

/// The adapter that rendered, as outputs record it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AdapterReport {
    /// For example `llvmpipe (LLVM 15.0.6, 256 bits)`.
    pub name: String,
    /// Name of the driver.
    pub driver: String,
    /// Version of the driver, in its own format.
    pub driver_info: String,
    /// Graphics API: `vulkan`, `metal` or `dx12`; `cpu` for the CPU backend.
    pub backend: String,
    /// Kind of hardware.
    pub kind: AdapterKind,
}

impl fmt::Display for AdapterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            driver,
            driver_info,
            backend,
            kind,
        } = self;
        write!(f, "{name}, {kind}, {backend}, driver {driver} {driver_info}")
    }
}
