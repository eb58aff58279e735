//! System calls that another process is to make, in a piece of memory lent to it.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{CheckpointError, unsupported};
use crate::fence;
use crate::mapped::{FileStamp, STAT_BYTES};

/// The code, what the calls' arguments point to, and the table of calls.
#[derive(Debug)]
pub(crate) struct Script {
    base: u64,
    data: Vec<u8>,
    calls: Vec<[u64; 8]>,
    wanted: Vec<(u64, u64)>,
    stamps: Vec<StampCheck>,
}

/// An `fstat`, and what it must give.
#[derive(Debug)]
pub(crate) struct StampCheck {
    /// The call's place in the table.
    pub(crate) call: u64,
    /// Where it writes.
    pub(crate) result: u64,
    pub(crate) stamp: FileStamp,
    pub(crate) path: PathBuf,
}

/// Bytes for the code.
const CODE: u64 = 4096;
/// Bytes for data.
const DATA: u64 = 252 << 10;

impl Script {
    /// Bytes of one call in the table.
    pub(crate) const CALL: u64 = 64;
    /// Bytes of all.
    pub(crate) const LENGTH: u64 = 1 << 20;

    pub(crate) fn at(base: u64) -> Self {
        Self { base, data: Vec::new(), calls: Vec::new(), wanted: Vec::new(), stamps: Vec::new() }
    }

    pub(crate) fn code(&self) -> u64 {
        self.base
    }

    pub(crate) fn table(&self) -> u64 {
        self.base + CODE + DATA
    }

    pub(crate) fn table_end(&self) -> u64 {
        self.table() + self.calls.len() as u64 * Self::CALL
    }

    /// Adds one call.
    pub(crate) fn call(&mut self, number: i64, arguments: &[u64]) {
        let mut call = [0; 8];
        call[0] = number as u64;
        call[1..=arguments.len()].copy_from_slice(arguments);
        self.calls.push(call);
    }

    /// Adds one call that must give this.
    pub(crate) fn call_for(&mut self, wanted: u64, number: i64, arguments: &[u64]) {
        self.wanted.push((self.table_end() + Self::CALL - 8, wanted));
        self.call(number, arguments);
    }

    /// Where calls leave what they gave, and what that must be.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = (u64, u64)> {
        self.wanted.iter().copied()
    }

    /// Adds an `fstat` of an open file. The calls after it are made whatever it gives: the caller compares before the
    /// process executes any of its own code.
    pub(crate) fn stat(&mut self, descriptor: u64, stamp: FileStamp, path: &Path) {
        let (call, result) = (self.table_end(), self.bytes(&[0; STAT_BYTES]));
        self.stamps.push(StampCheck { call, result, stamp, path: path.to_owned() });
        self.call(libc::SYS_fstat, &[descriptor, result]);
    }

    pub(crate) fn stamps(&self) -> &[StampCheck] {
        &self.stamps
    }

    /// Adds words that a call's argument points to.
    pub(crate) fn words(&mut self, words: &[u64]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.bytes(&bytes)
    }

    pub(crate) fn path(&mut self, path: &Path) -> u64 {
        let bytes = [path.as_os_str().as_bytes(), b"\0"].concat();
        self.bytes(&bytes)
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> u64 {
        let place = self.data.len().next_multiple_of(8);
        self.data.resize(place, 0);
        self.data.extend_from_slice(bytes);
        self.base + CODE + place as u64
    }

    /// What is to be written to the beginning of the memory.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, CheckpointError> {
        if self.data.len() as u64 > DATA || self.table_end() > self.base + Self::LENGTH {
            return Err(unsupported("its memory is in too many pieces"));
        }
        let mut bytes = fence::code().to_vec();
        bytes.resize(CODE as usize, 0);
        bytes.extend_from_slice(&self.data);
        bytes.resize((CODE + DATA) as usize, 0);
        bytes.extend(self.calls.iter().flatten().flat_map(|word| word.to_ne_bytes()));
        Ok(bytes)
    }
}
