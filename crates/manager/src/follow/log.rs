//! The lines of a container's log.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use mimeo_engine::log::{self, LogConfig, LogLine, Output};

use super::{Position, RotatedFile};

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// The line.
    pub(crate) line: LogLine,
    /// Where it begins.
    pub(crate) begin: Position,
    /// Where the next one begins.
    pub(crate) end: Position,
    /// Lines before it are lost.
    pub(crate) gap: bool,
}

/// Reads the lines of a log.
pub(crate) struct LogReader {
    file: RotatedFile,
    /// The start of a line whose end was not read yet, and where that is.
    partial: Vec<u8>,
    partial_begin: Option<Position>,
    gap: bool,
}

impl LogReader {
    /// The log of the machine in `dir`, from a place on.
    pub(crate) fn new(dir: PathBuf, config: LogConfig, from: Option<Position>) -> Self {
        let open = move || Ok(log::open_all(&dir, &config)?.into_iter().map(|(_, file)| file).collect());
        Self { file: RotatedFile::new(from, open), partial: Vec::new(), partial_begin: None, gap: false }
    }

    /// Reads some lines; `None` if there are no more yet.
    pub(crate) fn read(&mut self) -> io::Result<Option<Vec<Line>>> {
        let chunk = self.file.read()?;
        let Some(begin) = chunk.begin.filter(|_| !chunk.bytes.is_empty()) else { return Ok(None) };
        if self.partial_begin.is_none_or(|partial| partial.file != begin.file) {
            // A file ends with a complete line, unless the disk was full.
            self.partial.clear();
            self.partial_begin = Some(begin);
        }
        self.gap |= chunk.gap;
        self.partial.extend_from_slice(&chunk.bytes);
        Ok(Some(self.take_lines()))
    }

    fn take_lines(&mut self) -> Vec<Line> {
        let Some(mut place) = self.partial_begin else { return Vec::new() };
        let complete = self.partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let mut lines = Vec::new();
        for text in self.partial[..complete].split_inclusive(|byte| *byte == b'\n') {
            let end = Position { at: place.at + text.len() as u64, ..place };
            if let Some(line) = LogLine::parse(text.strip_suffix(b"\n").unwrap_or(text)) {
                lines.push(Line { line, begin: place, end, gap: std::mem::take(&mut self.gap) });
            }
            place = end;
        }
        self.partial.drain(..complete);
        self.partial_begin = Some(place);
        lines
    }

    /// Finds where the last `count` lines that count begin. `None` if there are no more than that. The pieces of a line count as one.
    pub(crate) fn find_tail(
        mut self,
        count: usize,
        counts: impl Fn(&LogLine) -> bool,
    ) -> io::Result<Option<Position>> {
        let (mut begins, mut total, mut is_open) = (VecDeque::with_capacity(count + 1), 0_usize, [false; 2]);
        let mut end = None;
        while let Some(lines) = self.read()? {
            for Line { line, begin, end: next, .. } in lines {
                end = Some(next);
                if !counts(&line) {
                    continue;
                }
                let stream = usize::from(line.output == Output::Stderr);
                if !std::mem::replace(&mut is_open[stream], !line.full) {
                    total += 1;
                    begins.push_back(begin);
                    if begins.len() > count {
                        begins.pop_front();
                    }
                }
            }
        }
        Ok(match begins.front() {
            _ if total <= count && count > 0 => None,
            Some(begin) => Some(*begin),
            // `tail=0`
            None => end,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(dir: &tempfile::TempDir, from: Option<Position>) -> LogReader {
        LogReader::new(dir.path().to_owned(), LogConfig::default(), from)
    }

    fn texts(reader: &mut LogReader) -> Vec<String> {
        let mut texts = Vec::new();
        while let Some(lines) = reader.read().expect("read") {
            texts.extend(lines.into_iter().map(|line| String::from_utf8(line.line.text).expect("text")));
        }
        texts
    }

    #[test]
    fn the_last_lines_are_found_by_whole_lines() {
        let dir = tempfile::tempdir().expect("a directory");
        let lines = ["stdout F a", "stdout P b1", "stdout F b2", "stderr F c", "broken", "stdout F d"];
        let text: String =
            lines.iter().map(|line| format!("2026-01-31T12:00:00.000000000Z {line}\n")).collect();
        std::fs::write(dir.path().join(log::FILE), text).expect("written");
        let tail = |count, of: fn(&LogLine) -> bool| {
            let from = reader(&dir, None).find_tail(count, of).expect("read");
            let mut reader = reader(&dir, from);
            let mut lines = Vec::new();
            while let Some(read) = reader.read().expect("read") {
                lines.extend(read.into_iter().map(|line| line.line).filter(of));
            }
            lines.into_iter().map(|line| String::from_utf8(line.text).expect("text")).collect::<Vec<_>>()
        };
        assert_eq!(tail(0, |_| true), [""; 0]);
        assert_eq!(tail(1, |_| true), ["d"]);
        assert_eq!(tail(3, |_| true), ["b1", "b2", "c", "d"]);
        assert_eq!(tail(4, |_| true), ["a", "b1", "b2", "c", "d"]);
        assert_eq!(tail(9, |_| true), ["a", "b1", "b2", "c", "d"]);
        assert_eq!(tail(1, |line| line.output == Output::Stderr), ["c"]);
        assert_eq!(tail(9, |_| false), [""; 0]);
    }

    #[test]
    fn a_line_that_is_being_written_is_read_once_it_is_complete() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(log::FILE);
        std::fs::write(&path, "2026-01-31T12:00:00.000000000Z stdout F a\n2026-01-31T12:00")
            .expect("written");
        let mut reader = reader(&dir, None);
        let first = reader.read().expect("read").expect("a line");
        assert_eq!((first.len(), first[0].end.at), (1, 42));
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("opened");
        io::Write::write_all(&mut file, b":00.000000000Z stderr F b\n").expect("written");
        assert_eq!(texts(&mut reader), ["b"]);
    }
}
