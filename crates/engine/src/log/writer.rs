//! Appends to a container's log. Logging never fails: output that cannot be written is dropped and counted,
//! and the log says how much is missing once it can be written again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{LogConfig, LogDriver, Output, files};

/// Appends to a container's log.
#[derive(Debug)]
pub(crate) struct LogWriter {
    dir: PathBuf,
    config: LogConfig,
    /// The current file, if it could be opened.
    current: Option<Current>,
    /// Bytes of output that are missing from the log, and that it does not mention yet.
    unmentioned: u64,
    /// Why they are missing.
    reason: String,
    /// All bytes of output that were lost.
    lost: u64,
}

/// The file that is written.
#[derive(Debug)]
struct Current {
    file: File,
    /// The end of its last complete entry.
    len: u64,
    /// A part of an entry follows that end.
    is_torn: bool,
}

impl LogWriter {
    /// Opens the log of the machine in `dir`; creates it if it does not exist. `lost` bytes of output are missing from
    /// it already.
    pub(crate) fn open(dir: &Path, config: LogConfig, lost: u64) -> Self {
        let dir = dir.to_owned();
        let mut log = Self { dir, config, current: None, unmentioned: 0, reason: String::new(), lost };
        if config.driver != LogDriver::None {
            // If this fails, so does each write, until one succeeds in opening the file.
            log.current = Current::open(&log.dir).ok();
        }
        log
    }

    /// Writes a chunk of output. An incomplete line is written at once as a partial line, so that
    /// followers of the log see it immediately.
    pub(crate) fn write(&mut self, output: Output, bytes: &[u8]) {
        if self.config.driver == LogDriver::None {
            return;
        }
        for part in parts(bytes, self.config.max_bytes) {
            if let Err(error) = self.append(&entries(output, part)) {
                self.count_lost(part.len() as u64, &error);
            }
        }
    }

    fn count_lost(&mut self, bytes: u64, error: &io::Error) {
        if self.unmentioned == 0 {
            tracing::warn!(component = "log", %error, "the container's output is missing from its log");
        }
        self.unmentioned += bytes;
        self.lost += bytes;
        self.reason = error.to_string();
    }

    /// Tries to write how much output is missing, if any is. Returns whether the log is complete, but for the
    /// losses that it mentions.
    pub(crate) fn mention_loss(&mut self) -> bool {
        self.unmentioned == 0 || self.append(&[]).is_ok()
    }

    /// The number of bytes of output that were lost.
    pub(crate) fn lost_bytes(&self) -> u64 {
        self.lost
    }

    /// Appends entries, and before them a notice of what is missing.
    fn append(&mut self, entries: &[u8]) -> io::Result<()> {
        let mut text = self.notice();
        text.extend_from_slice(entries);
        self.make_room(text.len() as u64)?;
        let current = match &mut self.current {
            Some(current) => current,
            none => none.insert(Current::open(&self.dir)?),
        };
        current.append(&text)?;
        self.unmentioned = 0;
        Ok(())
    }

    fn notice(&self) -> Vec<u8> {
        if self.unmentioned == 0 {
            return Vec::new();
        }
        let Self { unmentioned, reason, .. } = self;
        let text =
            format!("mimeo: {unmentioned} bytes of output could not be logged and are lost: {reason}\n");
        entries(Output::Stderr, text.as_bytes())
    }

    /// Begins a new file if the current one would become too long.
    fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        let (Some(current), Some(max)) = (&self.current, self.config.max_bytes) else { return Ok(()) };
        if current.len > 0 && current.len + bytes > max {
            files::rotate(&self.dir, &self.config)?;
            self.current = None;
        }
        Ok(())
    }
}

impl Current {
    fn open(dir: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(files::path(dir, 0))?;
        let len = file.metadata()?.len();
        Ok(Self { file, len, is_torn: false })
    }

    /// Appends complete entries, or nothing. A full disk may take a part of them, which is removed.
    fn append(&mut self, entries: &[u8]) -> io::Result<()> {
        let separator: &[u8] = if self.is_torn { b"\n" } else { b"" };
        let text = [separator, entries].concat();
        let written = self.file.write_all(&text);
        if written.is_err() {
            self.is_torn |= self.file.set_len(self.len).is_err();
        } else {
            self.is_torn = false;
            self.len = self.file.metadata().map_or(self.len + text.len() as u64, |file| file.len());
        }
        written
    }
}

/// Splits a chunk of output between lines into parts whose entries fit into a file of this size each. A longer line is a part
/// of its own.
fn parts(bytes: &[u8], max_bytes: Option<u64>) -> impl Iterator<Item = &[u8]> {
    let max = max_bytes.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (mut end, mut entries) = (0, 0);
        for line in rest.split_inclusive(|byte| *byte == b'\n') {
            entries += ENTRY_PREFIX + line.len();
            if end > 0 && entries > max {
                break;
            }
            end += line.len();
        }
        let part = rest.split_off(..end)?;
        (end > 0).then_some(part)
    })
}

/// The length of an entry without its text: `2026-11-28T05:40:14.656963000Z stdout F ` and the end of the line.
const ENTRY_PREFIX: usize = 41;

/// The entries of a chunk of output.
fn entries(output: Output, bytes: &[u8]) -> Vec<u8> {
    let prefix = format!("{:.9} {}", Timestamp::now(), output.name());
    let mut entries = Vec::with_capacity(bytes.len() + prefix.len());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let (flag, text) = match line.strip_suffix(b"\n") {
            Some(text) => (" F ", text),
            None => (" P ", line),
        };
        entries.extend_from_slice(prefix.as_bytes());
        entries.extend_from_slice(flag.as_bytes());
        entries.extend_from_slice(text);
        entries.push(b'\n');
    }
    entries
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::super::{FILE, LogLine, open_all};
    use super::*;

    fn lines(dir: &Path, config: &LogConfig) -> Vec<(Output, bool, String)> {
        let mut bytes = Vec::new();
        for (_, mut file) in open_all(dir, config).expect("opened") {
            file.read_to_end(&mut bytes).expect("read");
        }
        let lines = bytes.split(|byte| *byte == b'\n').filter_map(LogLine::parse);
        lines.map(|line| (line.output, line.full, String::from_utf8_lossy(&line.text).into_owned())).collect()
    }

    fn small(max_bytes: u64, max_files: u32) -> LogConfig {
        LogConfig { max_bytes: Some(max_bytes), max_files, ..LogConfig::default() }
    }

    #[test]
    fn a_large_chunk_is_split_between_lines() {
        let chunk = "0123456789\n".repeat(1000);
        let dir = tempfile::tempdir().expect("a directory");
        let config = small(1000, 3);
        LogWriter::open(dir.path(), config, 0).write(Output::Stdout, chunk.as_bytes());
        let sizes = (0..3).map(|age| std::fs::metadata(files::path(dir.path(), age)).expect("a file").len());
        assert!(sizes.clone().all(|size| size > 500 && size <= 1000), "{:?}", sizes.collect::<Vec<_>>());
        let parts: Vec<_> = parts(b"long line\na\nb\n\nc", Some(ENTRY_PREFIX as u64 * 2 + 4)).collect();
        assert_eq!(parts, [&b"long line\n"[..], b"a\nb\n", b"\nc"]);
        assert_eq!(super::parts(b"", Some(1)).count(), 0);
        assert_eq!(super::parts(b"a\nb", None).collect::<Vec<_>>(), [b"a\nb"]);
    }

    #[test]
    fn written_lines_are_parsed() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = LogConfig::default();
        let mut log = LogWriter::open(dir.path(), config, 0);
        log.write(Output::Stdout, b"one\ntwo");
        log.write(Output::Stderr, b"oh\n");
        assert_eq!(
            lines(dir.path(), &config),
            [
                (Output::Stdout, true, "one".to_owned()),
                (Output::Stdout, false, "two".to_owned()),
                (Output::Stderr, true, "oh".to_owned()),
            ]
        );
    }

    #[test]
    fn only_the_latest_files_are_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = small(100, 3);
        let mut log = LogWriter::open(dir.path(), config, 0);
        for number in 0..20 {
            log.write(Output::Stdout, format!("line {number:02}\n").as_bytes());
        }
        let kept: Vec<_> = lines(dir.path(), &config).into_iter().map(|(_, _, text)| text).collect();
        // Two entries of about 50 bytes in each file, or one.
        assert!((3..=6).contains(&kept.len()), "{kept:?}");
        let latest: Vec<_> = (20 - kept.len()..20).map(|number| format!("line {number:02}")).collect();
        assert_eq!(kept, latest);
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 3);
        assert_eq!(log.lost_bytes(), 0);
    }

    #[test]
    fn a_single_file_is_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = small(1, 1);
        let mut log = LogWriter::open(dir.path(), config, 0);
        log.write(Output::Stdout, b"old\n");
        log.write(Output::Stdout, b"new\n");
        assert_eq!(lines(dir.path(), &config), [(Output::Stdout, true, "new".to_owned())]);
    }

    #[test]
    fn lost_output_is_counted_and_mentioned() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = LogConfig::default();
        let missing = dir.path().join("missing");
        let mut log = LogWriter::open(&missing, config, 1);
        log.write(Output::Stdout, b"lost\n");
        log.write(Output::Stdout, b"too\n");
        assert!(!log.mention_loss());
        assert_eq!(log.lost_bytes(), 10);
        std::fs::create_dir(&missing).expect("made");
        log.write(Output::Stdout, b"kept\n");
        let lines = lines(&missing, &config);
        assert!(lines[0].2.starts_with("mimeo: 9 bytes of output could not be logged"), "{lines:?}");
        assert_eq!(lines[1], (Output::Stdout, true, "kept".to_owned()));
        assert_eq!(lines.len(), 2);
        assert_eq!(log.lost_bytes(), 10);
    }

    #[test]
    fn nothing_is_written_with_the_driver_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log =
            LogWriter::open(dir.path(), LogConfig { driver: LogDriver::None, ..LogConfig::default() }, 0);
        log.write(Output::Stdout, b"gone\n");
        assert!(log.mention_loss() && log.lost_bytes() == 0);
        assert!(!dir.path().join(FILE).exists());
    }
}
