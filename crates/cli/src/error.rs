//! A command's error: its message, its exit code, and the console output that helps to explain it.

use std::error::Error;
use std::fmt;

use mimeo_engine::SupervisorError;
use mimeo_engine::cause::chain;

/// podman's exit code when podman itself fails; here, when mimeo does.
const MIMEO_FAILED: i32 = 125;

/// A command's failure.
#[derive(Debug)]
pub(crate) struct CliError {
    code: i32,
    source: Box<dyn Error + Send + Sync>,
    /// The last lines of the guest's console, when they help to explain the error.
    console: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
struct Io {
    step: String,
    source: std::io::Error,
}

impl CliError {
    /// A failed I/O operation: "cannot `step`", followed by its source.
    pub(crate) fn io(step: impl Into<String>, source: std::io::Error) -> Self {
        Self::from(Io { step: step.into(), source })
    }

    /// An error that consists of a message alone, such as wrong arguments.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: MIMEO_FAILED, source: message.into().into(), console: Vec::new() }
    }

    /// Sets the exit code.
    pub(crate) fn with_code(self, code: i32) -> Self {
        Self { code, ..self }
    }

    /// Attaches the last lines of the guest's console.
    pub(crate) fn with_console(self, console: Vec<String>) -> Self {
        Self { console, ..self }
    }

    pub(crate) fn exit_code(&self) -> i32 {
        self.code
    }

    pub(crate) fn console(&self) -> &[String] {
        &self.console
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for CliError {
    fn from(source: E) -> Self {
        Self { code: MIMEO_FAILED, source: Box::new(source), console: Vec::new() }
    }
}

/// Converts a supervisor's error: podman's exit code, and the console's last lines if the guest failed.
pub(crate) fn from_supervisor(error: SupervisorError) -> CliError {
    let code = error.exit_code();
    let console = match &error {
        // The agent's refusal explains itself.
        SupervisorError::Start(start) if !start.source.is_guest_refusal() => start.console.clone(),
        _ => Vec::new(),
    };
    CliError::from(error).with_code(code).with_console(console)
}

/// The whole chain of sources on one line, outermost first.
impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain(&*self.source))
    }
}
