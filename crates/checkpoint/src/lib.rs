//! A process as it stands, kept in files, and processes that begin as it.
//!
//! What a program has made in its own memory is lost with its process: a translator's code, caches, tables that took long
//! to fill. [`take`] writes the memory, the threads and the descriptors of a process to a directory; a process that
//! [`Checkpoint::revive`] is given goes on from there. Memory is mapped from the directory's files and copied
//! only where it is written, so that what such processes do not change they share.
//!
//! It is made for one kind of process: a child of the caller's, whose memory is private and whose descriptors are
//! files, event counters, and what the caller gives it. Anything else is refused by name when it is kept. What is kept is good
//! until the host goes down or a program or library that it runs is replaced.
//!
//! ```no_run
//! # fn example(pid: u32) -> Result<(), Box<dyn std::error::Error>> {
//! use std::path::Path;
//! use mimeo_checkpoint::{Checkpoint, Wanted, take, trace_me};
//!
//! // The process stands still from here on, and is of no use any more.
//! take(pid, Wanted { given: &[0, 1, 2], apart: None, dir: Path::new("kept") }, || Ok(()))?;
//!
//! let kept = Checkpoint::open(Path::new("kept"))?;
//! let mut command = std::process::Command::new(kept.program());
//! trace_me(&mut command);
//! // Here the command is given `kept.descriptors(…)` under their numbers.
//! let child = command.spawn()?;
//! kept.revive(child.id(), None, &[])?;
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

pub use dump::{Wanted, take};
pub use error::CheckpointError;
pub use restore::Checkpoint;

/// Has the child that `command` starts stand still before its first instruction, traced by the thread that starts it.
pub fn trace_me(command: &mut Command) {
    fence::trace_me(command);
}

/// Bytes of a page.
const PAGE: u64 = 4096;
