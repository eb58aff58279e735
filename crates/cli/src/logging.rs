//! The log: one line per event on standard error, coloured only on a terminal.

mod line;
mod sink;

use std::io::{IsTerminal, stderr};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use line::Line;
use sink::Sink;
pub(crate) use sink::redirect_to;

/// The environment variable that sets the level.
pub(crate) const LOG_VARIABLE: &str = "MIMEO_LOG";

/// The least severe level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// Failures
    Error,
    /// Also problems that mimeo worked around
    Warn,
    /// Also what was done
    Info,
    /// Also each step, with its duration
    Debug,
    /// Everything
    Trace,
}

impl LogLevel {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Logs mimeo's own crates at `level`, and libraries only at `warn`.
pub(crate) fn init(level: LogLevel) {
    let own = level.name();
    let filter = format!("warn,mimeo={own},mimeo_engine={own},mimeo_vmm={own},mimeo_image={own}");
    tracing_subscriber::fmt()
        .with_writer(|| Sink)
        // The library reports a failed write with `eprintln!`, which panics if that write fails, too.
        .log_internal_errors(false)
        .with_ansi(stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .event_format(Line)
        .with_env_filter(EnvFilter::new(filter))
        .init();
}
