//! A condition on the version of the resource that a request changes.

use crate::api_error::{ApiError, Result};

/// The versions that a request accepts: its `If-Match`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IfMatch(Option<Vec<String>>);

impl IfMatch {
    /// Any version will do.
    pub(crate) fn any() -> Self {
        Self(None)
    }

    /// One of these entity tags.
    pub(crate) fn one_of(tags: &str) -> Self {
        Self(Some(tags.split(',').map(|tag| tag.trim().to_owned()).collect()))
    }

    /// Refuses the request if the resource has another version than the client has seen.
    pub(crate) fn check(&self, version: i64) -> Result<()> {
        let Self(Some(tags)) = self else { return Ok(()) };
        if tags.iter().any(|tag| tag == "*" || *tag == entity_tag(version)) {
            return Ok(());
        }
        let detail = format!("the resource has version {version}, not {}", tags.join(" or "));
        Err(ApiError::new(412, "version-changed", detail).with_hint("read it again, and repeat the change"))
    }
}

/// The entity tag of a version.
pub(crate) fn entity_tag(version: i64) -> String {
    format!("\"{version}\"")
}
