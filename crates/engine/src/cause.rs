//! Formats an error and its causes in one line.

use std::error::Error;

/// Formats an error, followed by the chain of its causes.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot write it")]
    struct Failure(#[source] std::io::Error);

    #[test]
    fn causes_follow_their_effects() {
        let failure = Failure(std::io::Error::from_raw_os_error(28));
        assert_eq!(chain(&failure), "cannot write it: No space left on device (os error 28)");
    }
}
