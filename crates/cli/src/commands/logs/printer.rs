//! Prints lines of a log to the stream that the container wrote them to:
//! standard output or standard error.

use mimeo_engine::log::{LogLine, Output};

use crate::error::CliError;
use crate::output;

/// Bytes that are buffered before they are written.
const MAX_BUFFERED: usize = 64 * 1024;

/// Prints lines; joins the pieces of a line.
#[derive(Debug)]
pub(super) struct Printer {
    timestamps: bool,
    /// What each line begins with.
    prefix: String,
    /// Whether the last line of standard output, and of standard error, is incomplete.
    partial: [bool; 2],
    buffer: Vec<u8>,
    /// The stream that the buffer is for.
    output: Output,
}

impl Printer {
    /// Prints lines with the name of their machine, if there is one.
    pub(super) fn new(timestamps: bool, name: Option<String>) -> Self {
        let prefix = name.map(|name| format!("{name} ")).unwrap_or_default();
        Self { timestamps, prefix, partial: [false; 2], buffer: Vec::new(), output: Output::Stdout }
    }

    /// Prints a line or a piece of a line.
    pub(super) fn print(&mut self, line: &LogLine) -> Result<(), CliError> {
        if line.output != self.output || self.buffer.len() > MAX_BUFFERED {
            self.flush()?;
            self.output = line.output;
        }
        let text = self.format(line);
        self.buffer.extend_from_slice(&text);
        Ok(())
    }

    /// Writes the buffer.
    pub(super) fn flush(&mut self) -> Result<(), CliError> {
        let buffer = std::mem::take(&mut self.buffer);
        match self.output {
            _ if buffer.is_empty() => Ok(()),
            Output::Stdout => output::bytes(&buffer),
            Output::Stderr => output::bytes_to_stderr(&buffer),
        }
    }

    fn format(&mut self, line: &LogLine) -> Vec<u8> {
        let partial = &mut self.partial[stream_index(line.output)];
        let mut text = Vec::new();
        if !*partial {
            text.extend_from_slice(self.prefix.as_bytes());
        }
        if self.timestamps && !*partial {
            text.extend_from_slice(format!("{:.9} ", line.time).as_bytes());
        }
        text.extend_from_slice(&line.text);
        if line.full {
            text.push(b'\n');
        }
        *partial = !line.full;
        text
    }
}

/// The index of a stream in a pair: standard output, standard error.
pub(super) fn stream_index(output: Output) -> usize {
    match output {
        Output::Stdout => 0,
        Output::Stderr => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_line_are_joined_under_one_timestamp() {
        let mut printer = Printer::new(true, Some("web".to_owned()));
        let line = |text: &str| LogLine::parse(text.as_bytes()).expect("a line");
        let mut printed = Vec::new();
        for text in [
            "2026-01-31T12:00:00.000000001Z stdout P on",
            "2026-01-31T12:00:01.000000000Z stderr F oh",
            "2026-01-31T12:00:02.000000000Z stdout F e",
            "2026-01-31T12:00:03.000000000Z stdout F two",
        ] {
            printed.extend(printer.format(&line(text)));
        }
        let printed = String::from_utf8(printed).expect("text");
        assert_eq!(
            printed,
            "web 2026-01-31T12:00:00.000000001Z onweb 2026-01-31T12:00:01.000000000Z oh\ne\n\
             web 2026-01-31T12:00:03.000000000Z two\n"
        );
    }
}
