//! `--attach`: which of the container's streams `run` is attached to.

use crate::error::CliError;
use crate::stdio::OutputStreams;

/// podman's exit code when no stream is left to attach to.
const NO_STREAM: i32 = 126;

/// The output streams to attach to. Standard input does not depend on the option, as in podman: --interactive attaches it.
pub(super) fn output_streams(names: &[String]) -> Result<OutputStreams, CliError> {
    if names.is_empty() {
        return Ok(OutputStreams::default());
    }
    let names: Vec<_> =
        names.iter().map(|name| name.to_lowercase()).filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return Err(CliError::usage("must provide at least one stream to attach to").with_code(NO_STREAM));
    }
    match names.iter().find(|name| !matches!(name.as_str(), "stdin" | "stdout" | "stderr")) {
        Some(bad) => Err(CliError::usage(format!(
            "invalid stream {bad:?} for --attach - must be one of stdin, stdout, or stderr"
        ))),
        None => Ok(OutputStreams {
            stdout: names.iter().any(|name| name == "stdout"),
            stderr: names.iter().any(|name| name == "stderr"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(names: &[&str]) -> Result<OutputStreams, i32> {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        output_streams(&names).map_err(|error| error.exit_code())
    }

    #[test]
    fn streams_are_named_as_podmans() {
        assert_eq!(parse(&[]), Ok(OutputStreams { stdout: true, stderr: true }));
        assert_eq!(parse(&["STDOUT"]), Ok(OutputStreams { stdout: true, stderr: false }));
        assert_eq!(parse(&["stdin", "stderr"]), Ok(OutputStreams { stdout: false, stderr: true }));
        assert_eq!(parse(&["stdin"]), Ok(OutputStreams { stdout: false, stderr: false }));
        assert_eq!(parse(&["stdout", "bad"]), Err(125));
        assert_eq!(parse(&[""]), Err(126));
    }
}
