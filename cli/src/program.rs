//! The other program: `tap` passes `tap train` on to `tap-train`, which leaves rendering to `tap`.

use std::env;
use std::path::PathBuf;

/// The program of this name, beside the one that runs or else on `PATH`.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let name = format!("{name}{}", env::consts::EXE_SUFFIX);
    let beside = env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.join(&name)));
    let on_path = env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(env::split_paths(&on_path).map(|folder| folder.join(&name)))
        .find(|path| path.is_file())
}
