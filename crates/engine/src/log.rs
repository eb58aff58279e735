//! Writes a container's output to disk, in the format of Kubernetes and podman:
//! `2026-01-31T12:00:00.000000000Z stdout F a line`. `P` in place of `F` marks a partial line, which the
//! next entry of the same stream continues.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use jiff::Timestamp;

/// The file's name in a machine's directory.
pub const FILE: &str = "container.log";

/// The stream that a container wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Output {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Appends to a container's log.
#[derive(Debug)]
pub(crate) struct LogWriter {
    file: File,
    buffer: Vec<u8>,
}

impl LogWriter {
    /// Opens the log of the machine in `dir`; creates it if it does not exist.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(dir.join(FILE))?;
        Ok(Self { file, buffer: Vec::new() })
    }

    /// Writes a chunk of output. An incomplete line is written at once as a partial line, so that
    /// followers of the log see it immediately.
    pub(crate) fn write(&mut self, output: Output, bytes: &[u8]) -> io::Result<()> {
        let time = format!("{:.9}", Timestamp::now());
        self.buffer.clear();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (flag, text) = match line.strip_suffix(b"\n") {
                Some(text) => ('F', text),
                None => ('P', line),
            };
            write!(self.buffer, "{time} {} {flag} ", output.name())?;
            self.buffer.extend_from_slice(text);
            self.buffer.push(b'\n');
        }
        self.file.write_all(&self.buffer)
    }
}

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was written.
    pub time: Timestamp,
    /// The stream.
    pub output: Output,
    /// Whether the line is complete; otherwise the next entry of the same stream continues it.
    pub full: bool,
    /// The output.
    pub text: Vec<u8>,
}

impl LogLine {
    /// Parses a line of the file; `None` if it is malformed.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let output = match fields.next()? {
            b"stdout" => Output::Stdout,
            b"stderr" => Output::Stderr,
            _ => return None,
        };
        let full = match fields.next()? {
            b"F" => true,
            b"P" => false,
            _ => return None,
        };
        Some(Self { time, output, full, text: fields.next()?.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_lines_are_parsed() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = LogWriter::open(dir.path()).expect("opened");
        log.write(Output::Stdout, b"one\ntwo").expect("written");
        log.write(Output::Stderr, b"\xff oh\n").expect("written");
        let bytes = std::fs::read(dir.path().join(FILE)).expect("read");
        let lines: Vec<_> = bytes.split(|byte| *byte == b'\n').filter_map(LogLine::parse).collect();
        let written: Vec<_> =
            lines.iter().map(|line| (line.output, line.full, line.text.as_slice())).collect();
        assert_eq!(
            written,
            [
                (Output::Stdout, true, &b"one"[..]),
                (Output::Stdout, false, b"two"),
                (Output::Stderr, true, b"\xff oh"),
            ]
        );
    }
}
