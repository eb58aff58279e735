//! What is kept of a process, beside its memory's bytes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::fence::{Registers, Rseq};
use crate::flags::MappingFlags;
use crate::mapped::{FileStamp, MappedFile};
use crate::maps::Rights;

/// The file of this.
pub(crate) const IMAGE_FILE: &str = "process.json";
/// The file of memory's bytes.
pub(crate) const PAGES_FILE: &str = "process.pages";

/// A process that was kept. It is read only by the program that wrote it, on the same start of the host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Image {
    /// The start of the host.
    pub(crate) boot_id: String,
    /// Which mimeo wrote it.
    pub(crate) written_by: String,
    pub(crate) program: PathBuf,
    /// [`PAGES_FILE`] when it was complete.
    pub(crate) pages: FileStamp,
    /// All files that parts of memory are still mapped from.
    pub(crate) files: Vec<MappedFile>,
    pub(crate) areas: Vec<DumpedArea>,
    /// The kernel's own pages: name, address, length.
    pub(crate) kernel_areas: Vec<(String, u64, u64)>,
    pub(crate) layout: Layout,
    /// What the kernel told the program at its start; debuggers read it.
    #[serde(rename = "auxiliary")]
    pub(crate) auxv: Vec<u8>,
    /// The first is the process's own.
    pub(crate) threads: Vec<Thread>,
    /// Words that are the id of the thread which holds a lock, and which that is.
    #[serde(rename = "owners")]
    pub(crate) mutex_owners: Vec<(u64, usize)>,
    /// Number, handler, flags, restorer, mask of each signal that is handled or ignored.
    pub(crate) signals: Vec<(u32, [u64; 4])>,
    /// Signals that were sent to the process and not yet taken: number and `siginfo_t`.
    pub(crate) pending: Vec<(i32, Vec<u8>)>,
    /// Registrations for `membarrier`, a bit for each command that makes one.
    #[serde(rename = "barriers")]
    pub(crate) membarrier_registrations: u64,
    pub(crate) descriptors: Vec<Descriptor>,
    /// Seccomp filters applied to it: its successors are not restored without any.
    pub(crate) has_filters: bool,
}

/// A part of memory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DumpedArea {
    pub(crate) start: u64,
    pub(crate) length: u64,
    pub(crate) rights: Rights,
    pub(crate) flags: MappingFlags,
    #[serde(rename = "from")]
    pub(crate) backing: Backing,
}

/// Where a part of memory comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Backing {
    /// It was never written, or a restored process must find zeros there.
    #[serde(rename = "nothing")]
    Zero,
    /// [`PAGES_FILE`], from here on.
    #[serde(rename = "kept")]
    Dumped { offset: u64 },
    /// The same, but copied: the first thread's stack, which grows by itself, and in which the kernel looks for the
    /// program's arguments, only where no file stands behind it.
    Stack { offset: u64 },
    /// A file of [`Image::files`], unchanged.
    File { index: usize, offset: u64 },
    /// The file that the caller keeps by itself.
    #[serde(rename = "apart")]
    External { offset: u64 },
}

/// Addresses that the kernel knows of a process's memory; of `struct prctl_mm_map`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub(crate) struct Layout {
    pub(crate) start_code: u64,
    pub(crate) end_code: u64,
    pub(crate) start_data: u64,
    pub(crate) end_data: u64,
    pub(crate) start_brk: u64,
    pub(crate) brk: u64,
    pub(crate) start_stack: u64,
    pub(crate) arg_start: u64,
    pub(crate) arg_end: u64,
    pub(crate) env_start: u64,
    pub(crate) env_end: u64,
}

/// A thread as it stood.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Thread {
    pub(crate) registers: Registers,
    pub(crate) xstate: Vec<u8>,
    pub(crate) signal_mask: u64,
    /// Signals that were sent to the thread and not yet taken: number and `siginfo_t`.
    pub(crate) pending: Vec<(i32, Vec<u8>)>,
    /// The stack that signals are handled on: `stack_t`, which is its address, flags and size.
    pub(crate) alternate_stack: [u64; 3],
    /// Where its id is written, and cleared when it ends.
    #[serde(rename = "id_at")]
    pub(crate) tid_address: u64,
    pub(crate) robust_list: (u64, u64),
    pub(crate) rseq: Rseq,
}

/// An open file descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Descriptor {
    pub(crate) number: i32,
    /// As /proc/PID/fdinfo shows them: how the file is open, its status flags, and close-on-exec.
    pub(crate) flags: i32,
    pub(crate) kind: DescriptorKind,
}

/// What a descriptor is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum DescriptorKind {
    /// The caller gives a restored process another.
    #[serde(rename = "given")]
    Inherited,
    /// A file or a device, where it stands in it, and the locks that belong to it.
    File { path: PathBuf, position: u64, locks: Vec<FileLock> },
    /// An eventfd.
    #[serde(rename = "events")]
    Eventfd { count: u32, semaphore: bool },
    /// A signalfd; a bit for each signal.
    #[serde(rename = "signals")]
    Signalfd { mask: u64 },
}

/// A lock that belongs to an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileLock {
    pub(crate) kind: LockKind,
    pub(crate) exclusive: bool,
    pub(crate) start: i64,
    /// 0 reaches to the end of the file.
    pub(crate) length: i64,
}

/// Which call made a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LockKind {
    /// `fcntl` with `F_OFD_SETLK`.
    Ofd,
    /// `flock`.
    Flock,
}
