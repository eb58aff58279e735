//! Dumps a process to files, and restores processes from them.
//!
//! What a program has built up in its own memory is lost when its process ends: translated code, caches, tables that
//! are slow to fill. [`checkpoint_process`] writes the memory, the threads and the descriptors of a process to a
//! directory; [`Checkpoint::restore`] makes other processes continue from there. Their memory is mapped privately
//! from the directory's files, so restored processes share all pages that they do not write.
//!
//! Only one kind of process is supported: a child process of the caller whose memory is private and whose
//! descriptors are files, eventfds, signalfds and those that the caller passes. A dump names and refuses anything
//! else. A checkpoint can be restored until the host reboots, or a program or library that it maps is replaced.
//!
//! ```no_run
//! # fn example(pid: u32) -> Result<(), Box<dyn std::error::Error>> {
//! use std::path::Path;
//! use mimeo_checkpoint::{Checkpoint, DumpRequest, checkpoint_process, trace_me};
//!
//! // This stops the process, and kills it in the end.
//! let request = DumpRequest { inherited: &[0, 1, 2], external: None, dir: Path::new("dir") };
//! checkpoint_process(pid, request, || Ok(()))?;
//!
//! let checkpoint = Checkpoint::open(Path::new("dir"))?;
//! let mut command = std::process::Command::new(checkpoint.program());
//! trace_me(&mut command);
//! // Pass `checkpoint.descriptors(…)` to the command here, under their numbers.
//! let child = command.spawn()?;
//! checkpoint.restore(child.id(), None, &[])?;
//! # Ok(())
//! # }
//! ```

mod descriptors;
mod dump;
mod error;
mod fence;
mod flags;
mod image;
mod mapped;
mod maps;
mod mutex_owners;
mod pages;
mod procfs;
mod remote_calls;
mod restore;
mod restorer;
mod stop;
mod threads;
mod tracee;

use std::process::Command;

pub use dump::{DumpRequest, checkpoint_process};
pub use error::CheckpointError;
pub use restore::Checkpoint;

/// Has the child process that `command` starts stop before its first instruction, traced by the thread that
/// starts it (PTRACE_TRACEME).
pub fn trace_me(command: &mut Command) {
    fence::trace_me(command);
}

/// Bytes of a page.
const PAGE: u64 = 4096;
