//! What `tap` and `tap-train` share, so that a flag, a setting, a signal or an exit code means the same in both.
//!
//! | module | holds |
//! |---|---|
//! | [`settings`] | TOML tables: presets, files, `--set KEY=VALUE`; no command-line parser |
//! | [`flag`] | flags of several commands |
//! | [`ui`] | results on stdout, everything else on stderr, progress bars |
//! | [`grouped`] | messages by kind: the first in full, the others counted |
//! | [`interrupt`] | Ctrl-C and SIGTERM |
//! | [`logging`] | the libraries' log on stderr |
//! | [`page`], [`chart`] | HTML pages that stand alone, and what is drawn in them |
//! | [`scatter`] | points of a plane as an SVG that stands alone |
//! | [`open_files`] | the limit of open files |
//! | [`program`] | the other program, which one starts for what it cannot do itself |
//! | [`exit_code`] | 0 done, 1 failed, 2 a wrong command line, 130 interrupted |

pub mod chart;
pub mod exit_code;
pub mod flag;
pub mod grouped;
pub mod interrupt;
pub mod logging;
pub mod open_files;
pub mod page;
pub mod program;
pub mod scatter;
pub mod settings;
pub mod ui;
