//! The log: standard error, one line an event, colour on a terminal alone.

mod line;

use std::io::{IsTerminal, stderr};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use line::Line;

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// What failed.
    Error,
    /// What went wrong and was mended.
    Warn,
    /// What was done.
    Info,
    /// Each step, with its time.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// mimeo's own crates at `level`; the libraries below it only when they fail.
pub(crate) fn init(level: LogLevel) {
    let own = level.name();
    let filter = format!("warn,mimeo={own},mimeo_engine={own},mimeo_vmm={own},mimeo_image={own}");
    tracing_subscriber::fmt()
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .event_format(Line)
        .with_env_filter(EnvFilter::new(filter))
        .init();
}
