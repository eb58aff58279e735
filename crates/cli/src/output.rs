//! What commands print: results on standard output, everything else on
//! standard error. A closed pipe (EPIPE) is not an error.

use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

use crate::error::CliError;

/// podman's minimum column width.
const MIN_WIDTH: usize = 10;

/// Prints a line of a command's result to standard output.
pub(crate) fn line(text: impl AsRef<str>) -> Result<(), CliError> {
    bytes(format!("{}\n", text.as_ref()).as_bytes())
}

/// Writes a command's result to standard output unchanged.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => exit_after_broken_pipe(),
        other => other.map_err(|source| CliError::io("write to standard output", source)),
    }
}

/// Writes a container's standard error to ours unchanged.
pub(crate) fn bytes_to_stderr(bytes: &[u8]) -> Result<(), CliError> {
    match io::stderr().lock().write_all(bytes) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => exit_after_broken_pipe(),
        other => other.map_err(|source| CliError::io("write to standard error", source)),
    }
}

/// Prints a value as JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<(), CliError> {
    line(serde_json::to_string_pretty(value)?)
}

/// Prints a table.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> Result<(), CliError> {
    bytes(columns(headings, rows).as_bytes())
}

/// Formats a table as podman does.
pub(crate) fn columns(headings: &[&str], rows: &[Vec<String>]) -> String {
    let headings: Vec<String> = headings.iter().map(ToString::to_string).collect();
    let all: Vec<Vec<String>> = std::iter::once(headings).chain(rows.iter().cloned()).collect();
    align(&all)
}

/// Aligns rows as podman does: each column as wide as its widest cell but at least ten
/// characters, with two spaces between columns. Rows may have different lengths.
pub(crate) fn align(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or_default();
    let length = |row: &Vec<String>, column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
    let widest = |column: usize| rows.iter().map(|row| length(row, column)).max().unwrap_or_default();
    let widths: Vec<usize> = (0..count).map(|column| widest(column).max(MIN_WIDTH)).collect();
    let mut text = String::new();
    for row in rows {
        // Text from a guest must not control the terminal.
        let plain = |cell: &String| cell.replace(char::is_control, "?");
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{:width$}", plain(cell)));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Prints an error, after the console's last lines if there are any.
pub(crate) fn error(error: &CliError) {
    let mut text = String::new();
    if !error.console().is_empty() {
        text.push_str("the console's last lines:\n");
        error
            .console()
            .iter()
            .for_each(|line| text.push_str(&format!("  | {}\n", replace_control_characters(line))));
    }
    text.push_str(&format!("Error: {}\n", replace_control_characters(&error.to_string())));
    // If standard error is closed, the failure cannot be reported anywhere.
    io::stderr().write_all(text.as_bytes()).ok();
}

/// Replaces control characters: error messages contain text from images and
/// guests, which must not control the terminal.
fn replace_control_characters(text: &str) -> String {
    text.replace(|character: char| character.is_control() && !matches!(character, '\n' | '\t'), "?")
}

/// Exits with `code`.
pub(crate) fn exit(code: i32) -> ExitCode {
    // Each command flushes its results itself and reports failures. A flush here would wait for a thread that
    // writes to a pipe that is not read.
    std::process::exit(code)
}

fn exit_after_broken_pipe() -> ! {
    std::process::exit(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_without_trailing_blanks() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["a", "longer than ten", ""]), row(["bbbb", "x", "y"])];
        assert_eq!(
            columns(&["ID", "IMAGE", "NAME"], &rows),
            "ID          IMAGE            NAME\na           longer than ten\nbbbb        x                y\n"
        );
    }
}
