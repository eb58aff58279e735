//! Sends a file's content.

use std::io::{self, Read as _, Write};
use std::path::Path;

use mimeo_agent_protocol::message::{Failure, FailureKind, Reply};
use rustix::fs::OFlags;
use tokio::sync::oneshot;

use super::lookup;
use crate::failure::{Context, SystemError, failure};

/// Writes exactly as many bytes as `found` says that the file has.
pub(super) fn read(path: &str, found: oneshot::Sender<Reply>, mut writer: impl Write) -> Result<(), Failure> {
    let path = Path::new(path);
    // A FIFO must not block.
    let file = lookup::open(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let action = || format!("read {}", path.display());
    let metadata = file.metadata().context(action())?;
    if metadata.is_dir() {
        return Err(failure(FailureKind::IsADirectory, format!("cannot {}: it is a directory", action())));
    }
    if !metadata.is_file() {
        let message = format!("cannot {}: it is not a regular file", action());
        return Err(failure(FailureKind::Forbidden, message));
    }
    let info = lookup::describe(&lookup::name(path), &metadata, None);
    let size = info.size;
    // If the receiver is gone, the first write fails.
    found.send(Reply::File(info)).ok();
    let copied = io::copy(&mut file.take(size), &mut writer).context(action())?;
    if copied < size {
        return Err(SystemError::new(action(), io::Error::other("it has become shorter meanwhile")).into());
    }
    Ok(writer.flush().context(action())?)
}
