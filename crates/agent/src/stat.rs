//! `stat`: the file type at a path of the container.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mimeo_agent_protocol::message::{Failure, FileKind, Reply};

use crate::blocking::run_in_container;
use crate::failure::SystemError;
use crate::machine::Machine;

/// Largest number of links to follow in a path, as in the kernel.
const MAX_LINKS: usize = 40;

/// Looks up the type of a file. Symbolic links are followed.
pub(crate) async fn handle(machine: &Arc<Machine>, path: String) -> Result<Reply, Failure> {
    run_in_container(machine.container_root()?, move || {
        Ok(Reply::Found { kind: file_kind(&path)?, target: link_target(Path::new(&path)) })
    })
    .await
}

fn file_kind(path: &str) -> Result<Option<FileKind>, SystemError> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(Some(FileKind::Directory)),
        Ok(found) if found.is_file() => Ok(Some(FileKind::File)),
        Ok(_) => Ok(Some(FileKind::Other)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(SystemError::new(format!("stat {path}"), error)),
    }
}

/// Whether nothing is at a path. A loop of links leads nowhere.
fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(libc::ELOOP)
}

/// Where the link at a path leads, through further links. `None` for anything else, and for a loop.
fn link_target(path: &Path) -> Option<String> {
    let mut target: Option<PathBuf> = None;
    for _ in 0..MAX_LINKS {
        let here = target.as_deref().unwrap_or(path);
        let Ok(next) = std::fs::read_link(here) else {
            return target.and_then(|target| target.into_os_string().into_string().ok());
        };
        target = Some(here.parent().unwrap_or(Path::new("/")).join(next));
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_target_of_a_link_is_found_even_if_nothing_is_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let text = |name: &str| path(name).to_str().expect("text").to_owned();
        symlink(path("none"), path("absolute")).expect("links");
        symlink("absolute", path("chain")).expect("links");
        symlink("loop", path("loop")).expect("links");
        std::fs::write(path("file"), "").expect("written");
        assert_eq!(link_target(&path("chain")), Some(text("none")));
        assert_eq!(link_target(&path("loop")), None);
        assert_eq!(link_target(&path("file")), None);
        assert!(matches!(file_kind(&text("loop")), Ok(None)));
        assert!(matches!(file_kind(&text("chain")), Ok(None)));
    }
}
