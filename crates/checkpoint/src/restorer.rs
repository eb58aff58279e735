//! The restorer blob: system calls to be made by another process, in a scratch mapping there.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{CheckpointError, unsupported};
use crate::fence;
use crate::mapped::{FileStamp, STAT_BYTES};

/// The code, the data that arguments point to, and the table of calls.
#[derive(Debug)]
pub(crate) struct RestorerBlob {
    base: u64,
    data: Vec<u8>,
    calls: Vec<[u64; 8]>,
    expected_results: Vec<(u64, u64)>,
    stamps: Vec<StampCheck>,
}

/// An `fstat`, and the stamp that it must give.
#[derive(Debug)]
pub(crate) struct StampCheck {
    /// The address of the call in the table.
    pub(crate) call: u64,
    /// The address that the call writes to.
    pub(crate) result: u64,
    pub(crate) stamp: FileStamp,
    pub(crate) path: PathBuf,
}

/// Bytes for the code.
const CODE_BYTES: u64 = 4096;
/// Bytes for data.
const DATA_BYTES: u64 = 252 << 10;

impl RestorerBlob {
    /// Bytes of one call in the table.
    pub(crate) const CALL_BYTES: u64 = 64;
    /// Bytes of the whole blob.
    pub(crate) const TOTAL_BYTES: u64 = 1 << 20;

    pub(crate) fn new(base: u64) -> Self {
        Self { base, data: Vec::new(), calls: Vec::new(), expected_results: Vec::new(), stamps: Vec::new() }
    }

    pub(crate) fn code(&self) -> u64 {
        self.base
    }

    pub(crate) fn table(&self) -> u64 {
        self.base + CODE_BYTES + DATA_BYTES
    }

    pub(crate) fn table_end(&self) -> u64 {
        self.table() + self.calls.len() as u64 * Self::CALL_BYTES
    }

    /// Adds one call.
    pub(crate) fn call(&mut self, number: i64, arguments: &[u64]) {
        let mut call = [0; 8];
        call[0] = number as u64;
        call[1..=arguments.len()].copy_from_slice(arguments);
        self.calls.push(call);
    }

    /// Adds one call that must return `result`.
    pub(crate) fn call_expecting(&mut self, result: u64, number: i64, arguments: &[u64]) {
        self.expected_results.push((self.table_end() + Self::CALL_BYTES - 8, result));
        self.call(number, arguments);
    }

    /// The addresses of results, and the expected values.
    pub(crate) fn expected_results(&self) -> impl Iterator<Item = (u64, u64)> {
        self.expected_results.iter().copied()
    }

    /// Adds an `fstat` of an open file. The calls after it are made whatever its result: the caller compares
    /// the stamp before the process executes any of its own code.
    pub(crate) fn fstat(&mut self, descriptor: u64, stamp: FileStamp, path: &Path) {
        let (call, result) = (self.table_end(), self.bytes(&[0; STAT_BYTES]));
        self.stamps.push(StampCheck { call, result, stamp, path: path.to_owned() });
        self.call(libc::SYS_fstat, &[descriptor, result]);
    }

    pub(crate) fn stamps(&self) -> &[StampCheck] {
        &self.stamps
    }

    /// Adds words that an argument of a call points to.
    pub(crate) fn words(&mut self, words: &[u64]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.bytes(&bytes)
    }

    pub(crate) fn path(&mut self, path: &Path) -> u64 {
        let bytes = [path.as_os_str().as_bytes(), b"\0"].concat();
        self.bytes(&bytes)
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> u64 {
        let offset = self.data.len().next_multiple_of(8);
        self.data.resize(offset, 0);
        self.data.extend_from_slice(bytes);
        self.base + CODE_BYTES + offset as u64
    }

    /// The bytes to write to the start of the scratch mapping.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, CheckpointError> {
        if self.data.len() as u64 > DATA_BYTES || self.table_end() > self.base + Self::TOTAL_BYTES {
            return Err(unsupported("the process has too many mappings"));
        }
        let mut bytes = fence::restorer_code().to_vec();
        bytes.resize(CODE_BYTES as usize, 0);
        bytes.extend_from_slice(&self.data);
        bytes.resize((CODE_BYTES + DATA_BYTES) as usize, 0);
        bytes.extend(self.calls.iter().flatten().flat_map(|word| word.to_ne_bytes()));
        Ok(bytes)
    }
}
