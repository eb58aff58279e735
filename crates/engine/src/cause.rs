//! Formats an error and its causes in one line.

use std::error::Error;

/// Formats an error, followed by the chain of its causes. One that its effect has named already is not repeated.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = format!(": {error}");
        if !text.ends_with(&more) {
            text.push_str(&more);
        }
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

    #[derive(Debug, thiserror::Error)]
    #[error("cannot save it: {0}")]
    struct Verbose(#[source] Failure);

    #[test]
    fn a_cause_that_was_named_is_not_repeated() {
        let failure = Verbose(Failure(std::io::Error::from_raw_os_error(28)));
        let text = "cannot save it: cannot write it: No space left on device (os error 28)";
        assert_eq!(chain(&failure), text);
    }
}
