//! Flags that commands of both programs have. Where the programs once differed, the other name is accepted still.

use std::path::Path;
use std::thread;

use clap::Args;

use crate::settings::Setting;

/// Where settings come from: later ones override earlier ones.
#[derive(Debug, Clone, Args)]
pub struct SettingFlags {
    /// A preset, or a TOML file, which may name a preset to start from. Flags override it, --set overrides both.
    #[arg(long, value_name = "PRESET|FILE.toml", alias = "recipe")]
    pub config: Option<String>,
    /// Change one setting, as in --set seed=7; may be given again.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<Setting>,
}

impl SettingFlags {
    /// The file that the settings start from, if it is one and not a preset.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.config
            .as_deref()
            .map(Path::new)
            .filter(|path| path.is_file())
    }
}

/// How many cores to use. No output file depends on it.
#[derive(Debug, Clone, Copy, Args)]
pub struct ThreadsFlag {
    /// Threads; one per core unless given. The files do not depend on it.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        hide_default_value = true,
        alias = "workers"
    )]
    pub threads: usize,
}

impl ThreadsFlag {
    /// At least one.
    #[must_use]
    pub fn num_threads(self) -> usize {
        match self.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }
}

/// How many inputs may be lost.
#[derive(Debug, Clone, Copy, Args)]
pub struct MaxSkippedFlag {
    /// How many inputs may be skipped as unusable before the exit code is 1.
    #[arg(long, value_name = "M", default_value_t = 0, alias = "max-failed")]
    pub max_skipped: usize,
}
