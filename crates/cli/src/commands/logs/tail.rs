//! `--tail`: the last lines. The pieces of a line count as one.

use std::collections::VecDeque;

use mimeo_engine::log::LogLine;

use super::printer::stream_index;

/// Buffers the last lines.
#[derive(Debug)]
pub(super) struct Tail {
    /// The number of lines; `None` for all.
    limit: Option<usize>,
    lines: VecDeque<Vec<LogLine>>,
    /// Lines that were dropped before the first buffered line.
    dropped: usize,
    /// For each stream, the number of its incomplete line.
    open: [Option<usize>; 2],
}

impl Tail {
    pub(super) fn new(limit: Option<usize>) -> Self {
        Self { limit, lines: VecDeque::new(), dropped: 0, open: [None; 2] }
    }

    /// Buffers a line; without a limit, returns it at once.
    pub(super) fn push(&mut self, line: LogLine) -> Option<LogLine> {
        let Some(limit) = self.limit else { return Some(line) };
        let stream = stream_index(line.output);
        let number = self.open[stream].unwrap_or(self.dropped + self.lines.len());
        self.open[stream] = (!line.full).then_some(number);
        match number.checked_sub(self.dropped) {
            Some(index) if index < self.lines.len() => self.lines[index].push(line),
            Some(_) => self.lines.push_back(vec![line]),
            // The start of this line has been dropped already.
            None => {}
        }
        while self.lines.len() > limit {
            self.lines.pop_front();
            self.dropped += 1;
        }
        None
    }

    /// The last lines, in the order in which they started.
    pub(super) fn into_lines(self) -> impl Iterator<Item = LogLine> {
        self.lines.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(limit: usize, lines: &[&str]) -> Vec<String> {
        let mut tail = Tail::new(Some(limit));
        for line in lines {
            let line = format!("2026-01-31T12:00:00.000000000Z {line}");
            assert_eq!(tail.push(LogLine::parse(line.as_bytes()).expect("a line")), None);
        }
        tail.into_lines().map(|line| String::from_utf8(line.text).expect("text")).collect()
    }

    #[test]
    fn pieces_of_a_line_count_once() {
        let lines = ["stdout F a", "stdout P b1", "stderr F c", "stdout F b2", "stdout F d"];
        assert_eq!(tail(1, &lines), ["d"]);
        assert_eq!(tail(2, &lines), ["c", "d"]);
        assert_eq!(tail(3, &lines), ["b1", "b2", "c", "d"]);
        assert_eq!(tail(9, &lines), ["a", "b1", "b2", "c", "d"]);
        assert!(tail(0, &lines).is_empty());
    }

    #[test]
    fn without_a_limit_no_line_is_buffered() {
        let line = LogLine::parse(b"2026-01-31T12:00:00Z stdout F a").expect("a line");
        assert_eq!(Tail::new(None).push(line.clone()), Some(line));
    }
}
