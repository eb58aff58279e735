//! Starts this program again, as another process.

use std::io;
use std::path::{Path, PathBuf};

use tokio::process::Command;

/// The file that this process runs, also after an upgrade has replaced or removed it.
const RUNNING_PROGRAM: &str = "/proc/self/exe";
/// The program's name in the list of processes.
const NAME: &str = "mimeo";

/// Returns the command that starts this program: the file that this process runs, so that both have the same version.
///
/// # Errors
/// If the kernel does not tell the file.
pub fn own_program() -> io::Result<Command> {
    let program = choose(std::env::current_exe()?);
    let mut command = Command::new(&program);
    if program == Path::new(RUNNING_PROGRAM) {
        command.arg0(NAME);
    }
    Ok(command)
}

/// The path by which the program is started. The kernel appends " (deleted)" to the path of a file that was replaced.
fn choose(path: PathBuf) -> PathBuf {
    if path.exists() { path } else { PathBuf::from(RUNNING_PROGRAM) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_replaced_is_started_by_its_open_file() {
        let own = std::env::current_exe().expect("a path");
        assert_eq!(choose(own.clone()), own);
        let mut replaced = own.into_os_string();
        replaced.push(" (deleted)");
        assert_eq!(choose(replaced.into()), Path::new(RUNNING_PROGRAM));
    }

    #[tokio::test]
    async fn the_open_file_can_be_started() {
        let mut command = Command::new(choose("/nonexistent (deleted)".into()));
        // This test's own program, which lists its tests.
        let output = command.arg0(NAME).arg("--list").output().await.expect("started");
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("the_open_file_can_be_started"));
    }
}
