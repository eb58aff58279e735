//! Prints lines of a log where the container wrote them: standard output or
//! standard error.

use mimeo_engine::log::{LogLine, Output};

use crate::error::CliError;
use crate::output;

/// Bytes that are gathered before they are written.
const MAX_HELD: usize = 64 * 1024;

/// Prints lines, pieces of one line joined.
#[derive(Debug)]
pub(super) struct Printer {
    timestamps: bool,
    /// Whether a line was begun on standard output, and on standard error.
    begun: [bool; 2],
    held: Vec<u8>,
    of: Output,
}

impl Printer {
    pub(super) fn new(timestamps: bool) -> Self {
        Self { timestamps, begun: [false; 2], held: Vec::new(), of: Output::Stdout }
    }

    /// Prints a line or a piece of one.
    pub(super) fn put(&mut self, line: &LogLine) -> Result<(), CliError> {
        if line.output != self.of || self.held.len() > MAX_HELD {
            self.flush()?;
            self.of = line.output;
        }
        let text = self.text(line);
        self.held.extend_from_slice(&text);
        Ok(())
    }

    /// Writes what was gathered.
    pub(super) fn flush(&mut self) -> Result<(), CliError> {
        let held = std::mem::take(&mut self.held);
        match self.of {
            _ if held.is_empty() => Ok(()),
            Output::Stdout => output::bytes(&held),
            Output::Stderr => output::aside(&held),
        }
    }

    fn text(&mut self, line: &LogLine) -> Vec<u8> {
        let begun = &mut self.begun[index(line.output)];
        let mut text = Vec::new();
        if self.timestamps && !*begun {
            text.extend_from_slice(format!("{:.9} ", line.time).as_bytes());
        }
        text.extend_from_slice(&line.text);
        if line.full {
            text.push(b'\n');
        }
        *begun = !line.full;
        text
    }
}

/// The place of an output in a pair.
pub(super) fn index(output: Output) -> usize {
    match output {
        Output::Stdout => 0,
        Output::Stderr => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_joined_under_one_time() {
        let mut printer = Printer::new(true);
        let line = |text: &str| LogLine::parse(text.as_bytes()).expect("a line");
        let mut told = Vec::new();
        for text in [
            "2026-01-31T12:00:00.000000001Z stdout P on",
            "2026-01-31T12:00:01.000000000Z stderr F oh",
            "2026-01-31T12:00:02.000000000Z stdout F e",
            "2026-01-31T12:00:03.000000000Z stdout F two",
        ] {
            told.extend(printer.text(&line(text)));
        }
        let told = String::from_utf8(told).expect("text");
        assert_eq!(
            told,
            "2026-01-31T12:00:00.000000001Z on2026-01-31T12:00:01.000000000Z oh\ne\n\
             2026-01-31T12:00:03.000000000Z two\n"
        );
    }
}
