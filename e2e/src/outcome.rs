//! The outcome of a command.

use std::process::{Child, Output};

/// A command's exit code and output, with assertions that print all of it.
#[derive(Debug)]
pub struct Outcome {
    #[allow(dead_code, reason = "printed when an assertion fails")]
    command: String,
    /// The exit code; 128 plus the signal number if a signal ended the command.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    pub(crate) fn new(command: String, output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let signal = output.status.signal().unwrap_or_default();
        Self {
            command,
            code: output.status.code().unwrap_or(128 + signal),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Waits until a child process ends.
    #[must_use]
    pub fn wait_for(child: Child) -> Self {
        let command = format!("{child:?}");
        Self::new(command, child.wait_with_output().expect("the process ends"))
    }

    /// Asserts the exit code.
    #[track_caller]
    pub fn code(self, expected: i32) -> Self {
        assert_eq!(self.code, expected, "{self:#?}");
        self
    }

    /// Asserts exit code 0 and an empty standard error.
    #[track_caller]
    pub fn ok(self) -> Self {
        let this = self.code(0);
        assert_eq!(this.stderr, "", "{this:#?}");
        this
    }

    /// Asserts the whole standard output.
    #[track_caller]
    pub fn printed(self, expected: &str) -> Self {
        assert_eq!(self.stdout, expected, "{self:#?}");
        self
    }

    /// Asserts that standard error contains `part`.
    #[track_caller]
    pub fn stderr_contains(self, part: &str) -> Self {
        assert!(self.stderr.contains(part), "stderr lacks {part:?}: {self:#?}");
        self
    }

    /// Standard output, trimmed.
    #[must_use]
    pub fn text(&self) -> &str {
        self.stdout.trim()
    }

    /// Standard output, parsed as JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}
