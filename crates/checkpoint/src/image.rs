//! The image of a process: everything but the content of its memory.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::fence::{Registers, Rseq};
use crate::flags::MappingFlags;
use crate::mapped::{FileStamp, MappedFile};
use crate::maps::Rights;

/// The file that holds [`Image`].
pub(crate) const IMAGE_FILE: &str = "process.json";
/// The file that holds the content of memory.
pub(crate) const PAGES_FILE: &str = "process.pages";

/// A checkpointed process. Only the version that wrote it can read it, until the host reboots.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Image {
    /// The boot id of the host.
    pub(crate) boot_id: String,
    /// The version that wrote it; see [`WRITTEN_BY`](crate::dump::WRITTEN_BY).
    pub(crate) written_by: String,
    pub(crate) program: PathBuf,
    /// The stamp of [`PAGES_FILE`] when it was complete.
    pub(crate) pages: FileStamp,
    /// All files that areas are mapped from.
    pub(crate) files: Vec<MappedFile>,
    pub(crate) areas: Vec<DumpedArea>,
    /// The vdso and vvar pages: name, address, length.
    pub(crate) kernel_areas: Vec<(String, u64, u64)>,
    pub(crate) layout: Layout,
    /// The auxiliary vector, which debuggers read.
    #[serde(rename = "auxiliary")]
    pub(crate) auxv: Vec<u8>,
    /// The first is the main thread.
    pub(crate) threads: Vec<Thread>,
    /// Addresses of mutex owner TIDs, and the owner's index among the threads.
    #[serde(rename = "owners")]
    pub(crate) mutex_owners: Vec<(u64, usize)>,
    /// Number, handler, flags, restorer, mask of each signal that is handled or ignored.
    pub(crate) signals: Vec<(u32, [u64; 4])>,
    /// Pending signals of the process: number and `siginfo_t`.
    pub(crate) pending: Vec<(i32, Vec<u8>)>,
    /// Registrations for `membarrier`, a bit for each command that makes one.
    #[serde(rename = "barriers")]
    pub(crate) membarrier_registrations: u64,
    pub(crate) descriptors: Vec<Descriptor>,
    /// Whether seccomp filters applied to the process: it is not restored without any.
    pub(crate) has_filters: bool,
}

/// A range of memory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DumpedArea {
    pub(crate) start: u64,
    pub(crate) length: u64,
    pub(crate) rights: Rights,
    pub(crate) flags: MappingFlags,
    #[serde(rename = "from")]
    pub(crate) backing: Backing,
}

/// Where the content of an area comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Backing {
    /// All zeros: never written, or wiped for each restored process.
    #[serde(rename = "nothing")]
    Zero,
    /// Mapped from [`PAGES_FILE`] at this offset.
    #[serde(rename = "kept")]
    Dumped { offset: u64 },
    /// Copied from [`PAGES_FILE`]: the main thread's stack. It grows down, and the kernel reads the program's
    /// arguments from it only if it is an anonymous mapping.
    Stack { offset: u64 },
    /// Mapped from a file of [`Image::files`], unchanged.
    File { index: usize, offset: u64 },
    /// Mapped from the external file.
    #[serde(rename = "apart")]
    External { offset: u64 },
}

/// Addresses of a process's memory that the kernel holds; of `struct prctl_mm_map`.
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

/// The state of a thread.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Thread {
    pub(crate) registers: Registers,
    pub(crate) xstate: Vec<u8>,
    pub(crate) signal_mask: u64,
    /// Pending signals of the thread: number and `siginfo_t`.
    pub(crate) pending: Vec<(i32, Vec<u8>)>,
    /// The alternate signal stack, a `stack_t`: address, flags and size.
    pub(crate) alternate_stack: [u64; 3],
    /// The address that the kernel clears when the thread exits (`set_tid_address`); it holds the thread id.
    #[serde(rename = "id_at")]
    pub(crate) tid_address: u64,
    pub(crate) robust_list: (u64, u64),
    pub(crate) rseq: Rseq,
}

/// An open file descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Descriptor {
    pub(crate) number: i32,
    /// As /proc/PID/fdinfo shows them: access mode, status flags and close-on-exec.
    pub(crate) flags: i32,
    pub(crate) kind: DescriptorKind,
}

/// What a descriptor refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum DescriptorKind {
    /// Passed to the restored process by the caller.
    #[serde(rename = "given")]
    Inherited,
    /// A file or a device, with its position and the locks that belong to the open file.
    File { path: PathBuf, position: u64, locks: Vec<FileLock> },
    /// An eventfd.
    #[serde(rename = "events")]
    Eventfd { count: u32, semaphore: bool },
    /// A signalfd, with a bit for each signal.
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

/// The call that takes the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LockKind {
    /// `fcntl` with `F_OFD_SETLK`.
    Ofd,
    /// `flock`.
    Flock,
}
