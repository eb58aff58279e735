//! nftables, through the `nft` program. A transaction is passed on standard input and applied atomically.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use super::BridgedError;

const PROGRAM: &str = "nft";
/// Debian installs it in a directory that is not in every user's PATH.
const PATHS: &str = "/usr/sbin:/sbin:/usr/local/sbin";

/// Whether the program is installed.
pub(crate) fn is_installed() -> bool {
    std::env::split_paths(&search_path()).any(|folder| folder.join(PROGRAM).is_file())
}

/// Applies a transaction.
pub(crate) fn apply(transaction: &str) -> Result<(), BridgedError> {
    run(&["-f", "-"], transaction).map(drop)
}

/// The kernel's current table; none if it does not exist.
pub(crate) fn list(family: &str, table: &str) -> Result<Option<serde_json::Value>, BridgedError> {
    match run(&["-j", "list", "table", family, table], "") {
        Ok(output) => Ok(serde_json::from_slice(&output.stdout).ok()),
        Err(BridgedError::Nft { stderr, .. }) if stderr.contains("No such file or directory") => Ok(None),
        Err(error) => Err(error),
    }
}

fn run(arguments: &[&str], input: &str) -> Result<Output, BridgedError> {
    let mut child = command(arguments).spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => BridgedError::NoNft,
        _ => BridgedError::Io { step: "start", path: PROGRAM.into(), source: error },
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        // If nft exits without reading its input, its status and stderr are reported below.
        stdin.write_all(input.as_bytes()).ok();
    }
    let output = child.wait_with_output().map_err(BridgedError::io("wait for", PROGRAM))?;
    if output.status.success() {
        return Ok(output);
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(BridgedError::Nft { stderr })
}

fn search_path() -> String {
    format!("{}:{PATHS}", std::env::var("PATH").unwrap_or_default())
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env_clear().env("PATH", search_path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}
