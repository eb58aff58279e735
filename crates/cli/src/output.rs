//! What commands print: results on standard output, all else on standard
//! error. A reader that went away is no failure.

use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

use crate::error::CliError;

/// podman's narrowest column.
const MIN_WIDTH: usize = 10;

/// Prints a line of a command's result.
pub(crate) fn line(text: impl AsRef<str>) -> Result<(), CliError> {
    bytes(format!("{}\n", text.as_ref()).as_bytes())
}

/// Prints a command's result as it is.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => exit_after_broken_pipe(),
        other => other.map_err(|source| CliError::io("write to standard output", source)),
    }
}

/// Prints what belongs on standard error: a container's own.
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

/// Prints rows under headings, in columns.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> Result<(), CliError> {
    bytes(columns(headings, rows).as_bytes())
}

/// Rows under headings, as podman lines them up: each column as wide as its
/// widest cell, but no narrower than ten characters, two blanks between.
pub(crate) fn columns(headings: &[&str], rows: &[Vec<String>]) -> String {
    let headings: Vec<String> = headings.iter().map(ToString::to_string).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&headings).chain(rows).collect();
    let widest = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let width = |column: usize| widest(column).max(MIN_WIDTH);
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    for row in all {
        // A guest's words must not move a person's cursor.
        let plain = |cell: &String| cell.replace(char::is_control, "?");
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{:width$}", plain(cell)));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Tells why a command failed.
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
    // There is nowhere left to say that this could not be said.
    io::stderr().write_all(text.as_bytes()).ok();
}

/// Images and guests have a say in what an error tells: not in what the
/// terminal does.
fn replace_control_characters(text: &str) -> String {
    text.replace(|character: char| character.is_control() && !matches!(character, '\n' | '\t'), "?")
}

/// Ends the process with `code`.
pub(crate) fn exit(code: i32) -> ExitCode {
    io::stdout().flush().ok();
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
