//! Results of the validation of a base.

use serde::{Deserialize, Serialize};

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// Something will not work, or is not known.
    Warning,
    /// The image cannot be used.
    Error,
}

impl Outcome {
    /// The outcome's name, as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was checked, such as `cloud-init`.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What was found.
    pub detail: String,
    /// What to do, unless all is well.
    pub hint: Option<String>,
}

impl Check {
    pub(crate) fn ok(name: &str, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), outcome: Outcome::Ok, detail: detail.into(), hint: None }
    }

    pub(crate) fn warning(name: &str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { outcome: Outcome::Warning, hint: Some(hint.into()), ..Self::ok(name, detail) }
    }

    pub(crate) fn error(name: &str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { outcome: Outcome::Error, hint: Some(hint.into()), ..Self::ok(name, detail) }
    }
}

/// Whether a base with these checks can be used: none of them is an error.
#[must_use]
pub fn is_usable(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.outcome != Outcome::Error)
}
