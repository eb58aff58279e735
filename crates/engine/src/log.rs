//! A container's output on disk, in the format of Kubernetes and podman:
//! `2026-01-31T12:00:00.000000000Z stdout F a line`. `P` in place of `F` marks a partial line, which the
//! next entry of the same stream continues.

mod config;
mod files;
mod line;
mod writer;

pub use config::{LogConfig, LogDriver};
pub use files::open_all;
pub use line::{LogLine, Output};
pub(crate) use writer::LogWriter;

/// The file's name in a machine's directory. Older output is in `container.log.1`, `container.log.2`, …
pub const FILE: &str = "container.log";
