//! Asks before a command removes many things at once.

use std::io::{BufRead, Write, stderr, stdin};

use crate::error::CliError;

/// Prints the warning and reads an answer. As podman's, the question is asked without a terminal too.
pub(crate) fn confirm(warning: &str) -> Result<bool, CliError> {
    let io = |source| CliError::io("ask for confirmation", source);
    write!(stderr(), "WARNING! {warning}\nAre you sure you want to continue? [y/N] ").map_err(io)?;
    let mut answer = String::new();
    if stdin().lock().read_line(&mut answer).map_err(io)? == 0 {
        return Err(CliError::usage("cannot ask for confirmation: standard input has ended: use --force"));
    }
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
