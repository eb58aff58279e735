//! The limit of open files of a process that serves many machines and clients. What it starts has the limit that it was
//! started with itself.

use std::sync::OnceLock;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

/// The limit before it was raised.
static ORIGINAL: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit of this process to the hard limit.
///
/// # Errors
/// If the operating system refuses.
pub fn raise_open_files() -> std::io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    ORIGINAL.get_or_init(|| limit);
    Ok(())
}

/// Gives a process that was started the limit before it was raised.
pub fn restore_open_files(process: Option<u32>) {
    let pid = process.and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let (Some(limit), Some(pid)) = (ORIGINAL.get(), pid) else { return };
    if let Err(error) = prlimit(Some(pid), Resource::Nofile, *limit) {
        // It may have ended; otherwise it has a larger limit than it needs.
        tracing::debug!(component = "engine", %error, "cannot restore the limit of open files");
    }
}
