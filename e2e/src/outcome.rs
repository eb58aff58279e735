//! What a command did.

use std::process::{Child, Output};

/// A command's exit code and output, with assertions that show all of it.
#[derive(Debug)]
pub struct Outcome {
    #[allow(dead_code, reason = "shown with the rest when an assertion fails")]
    command: String,
    /// Its exit code; 128 and the signal's number for a signal.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
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

    /// Waits for the end of what a test started.
    #[must_use]
    pub fn of(child: Child) -> Self {
        let told = format!("{child:?}");
        Self::new(told, child.wait_with_output().expect("it ends"))
    }

    /// It ended with this code.
    #[track_caller]
    pub fn code(self, expected: i32) -> Self {
        assert_eq!(self.code, expected, "{self:#?}");
        self
    }

    /// It succeeded and said nothing but its result.
    #[track_caller]
    pub fn ok(self) -> Self {
        let this = self.code(0);
        assert_eq!(this.stderr, "", "{this:#?}");
        this
    }

    /// It printed exactly this.
    #[track_caller]
    pub fn printed(self, expected: &str) -> Self {
        assert_eq!(self.stdout, expected, "{self:#?}");
        self
    }

    /// Its standard error has this in it.
    #[track_caller]
    pub fn told(self, part: &str) -> Self {
        assert!(self.stderr.contains(part), "{part:?} is missing: {self:#?}");
        self
    }

    /// Its standard output without blanks around it.
    #[must_use]
    pub fn text(&self) -> &str {
        self.stdout.trim()
    }

    /// Its standard output as JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}
