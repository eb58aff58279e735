//! `stat`: the file type at a path of the container.

use std::io::ErrorKind;
use std::sync::Arc;

use mimeo_agent_protocol::message::{Failure, FileKind, Reply};

use crate::blocking::run_in_container;
use crate::failure::SystemError;
use crate::machine::Machine;

/// Looks up the type of a file. Symbolic links are followed.
pub(crate) async fn handle(machine: &Arc<Machine>, path: String) -> Result<Reply, Failure> {
    let kind = run_in_container(machine.container_root()?, move || match std::fs::metadata(&path) {
        Ok(found) if found.is_dir() => Ok(Some(FileKind::Directory)),
        Ok(found) if found.is_file() => Ok(Some(FileKind::File)),
        Ok(_) => Ok(Some(FileKind::Other)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(SystemError::new(format!("stat {path}"), error).into()),
    });
    Ok(Reply::Found { kind: kind.await? })
}
