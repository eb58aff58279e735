//! Reads files of /proc. A missing or malformed value is an error that names the file and the line: a zero in
//! its place would be restored as if the process had had it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{CheckpointError, file};

/// The text of a file in /proc.
#[derive(Debug)]
pub(crate) struct ProcFile {
    path: PathBuf,
    text: String,
}

impl ProcFile {
    pub(crate) fn read(path: impl Into<PathBuf>) -> Result<Self, CheckpointError> {
        let path = path.into();
        let text = fs::read_to_string(&path).map_err(file(&path))?;
        Ok(Self { path, text })
    }

    #[cfg(test)]
    pub(crate) fn from_text(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.to_owned() }
    }

    pub(crate) fn text(&self) -> &str {
        self.text.trim_end()
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines()
    }

    /// The value of the line `name: value`.
    pub(crate) fn field(&self, name: &str) -> Result<&str, CheckpointError> {
        let value = self.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(str::trim).ok_or_else(|| self.invalid(&format!("no line {name:?}")))
    }

    /// The value of the line `name: value`, as a number.
    pub(crate) fn number(&self, name: &str, radix: u32) -> Result<u64, CheckpointError> {
        let value = self.field(name)?;
        u64::from_str_radix(value, radix).map_err(|_| self.invalid(&format!("{name}: {value}")))
    }

    pub(crate) fn invalid(&self, line: &str) -> CheckpointError {
        invalid(&self.path, line)
    }
}

pub(crate) fn invalid(path: &Path, line: &str) -> CheckpointError {
    CheckpointError::Parse { path: path.to_owned(), line: line.to_owned() }
}

/// The entries of a directory in /proc whose names are all numbers.
pub(crate) fn numeric_entries(path: &Path) -> Result<Vec<i32>, CheckpointError> {
    let number = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        number.ok_or_else(|| invalid(path, &name.to_string_lossy()))
    };
    let entries = fs::read_dir(path).map_err(file(path))?;
    entries.map(|entry| number(entry.map_err(file(path))?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_non_numeric_field_is_an_error() {
        let status = ProcFile::from_text("/proc/7/status", "Name:\tx\nSigCgt:\t00ff\nSeccomp:\tmany\n");
        assert_eq!(status.number("SigCgt", 16).expect("a number"), 255);
        for (name, expected) in [("Seccomp", "Seccomp: many"), ("SigIgn", "no line \"SigIgn\"")] {
            let error = status.number(name, 10).expect_err("no number");
            let CheckpointError::Parse { path, line } = &error else { panic!("{error:?}") };
            assert_eq!((path.to_str(), line.as_str()), (Some("/proc/7/status"), expected));
        }
    }
}
