//! Why a request to a manager failed.

use mimeo_manager_api::Problem;

/// Why a request to a manager failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    /// No connection, or it was lost.
    #[error("cannot reach the manager at {address}")]
    Unreachable {
        address: String,
        #[source]
        source: reqwest::Error,
    },
    /// The manager has refused the request, or it has failed.
    #[error("{}", describe(.0))]
    Problem(Box<Problem>),
    /// The manager's answer is not what this version of mimeo understands.
    #[error(
        "cannot read the answer of the manager at {address}: {reason}: use the mimeo of the manager's version, which \
         `mimeo version` shows"
    )]
    Answer { address: String, reason: String },
    /// The connection of a WebSocket was lost.
    #[error("lost the connection to the manager at {address}: {reason}")]
    Lost { address: String, reason: String },
}

impl RemoteError {
    /// The stable code of the problem, if the manager has sent one.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Problem(problem) => Some(&problem.code),
            Self::Unreachable { .. } | Self::Answer { .. } | Self::Lost { .. } => None,
        }
    }

    /// The exit code that podman has for such a failure of a start.
    pub(crate) fn start_exit_code(&self) -> i32 {
        match self.code() {
            Some("command-not-found") => 127,
            Some("command-not-executable" | "unknown-user") => 126,
            _ => 125,
        }
    }

    /// The exit code that podman has for such a failure of `exec`.
    pub(crate) fn exec_exit_code(&self) -> i32 {
        match self.code() {
            Some("command-not-found") => 127,
            Some("command-not-executable") => 126,
            Some("unknown-user" | "wrong-state") => 255,
            // The state of the machine does not allow it.
            Some(code) if code.starts_with("machine-") || code == "disk-error" => 255,
            _ => 125,
        }
    }
}

impl From<Problem> for RemoteError {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

/// A problem, with what can be done about it. The request's id is for the manager's administrator.
fn describe(problem: &Problem) -> String {
    match &problem.request_id {
        Some(id) if problem.status >= 500 => format!("{problem} (request {id})"),
        _ => problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_podmans() {
        let error = |code| RemoteError::from(Problem::new(409, code, "cannot"));
        for (code, start, exec) in [
            ("command-not-found", 127, 127),
            ("command-not-executable", 126, 126),
            ("unknown-user", 126, 255),
            ("machine-not-running", 125, 255),
            ("image-not-found", 125, 125),
        ] {
            assert_eq!(
                (error(code).start_exit_code(), error(code).exec_exit_code()),
                (start, exec),
                "{code}"
            );
        }
    }

    #[test]
    fn a_problem_says_what_to_do() {
        let mut problem = Problem::new(500, "start-failed", "cannot start").with_hint("read the log");
        problem.request_id = Some("7".to_owned());
        assert_eq!(RemoteError::from(problem).to_string(), "cannot start: read the log (request 7)");
    }
}
