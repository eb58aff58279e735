//! The locations that are measured.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::PROGRAM;
use super::figures::Subject;
use crate::bench::lab::Site;
use crate::bench::podman::{Container, Podman};

/// The name of the machine.
const MACHINE: &str = "volumes";
/// Where the directory is in the machine and in the container.
const TARGET: &str = "/data";

/// A directory, and what runs a program in it.
#[derive(Debug)]
pub(super) enum Location<'a> {
    Shared(&'a Site<'a>),
    Disk(&'a Site<'a>),
    Podman(Container),
    Host(&'a Path),
}

/// Starts a machine and a container that share the directory.
pub(super) fn start_all<'a>(
    site: &'a Site<'a>,
    podman: &Podman,
    shared: &'a Path,
) -> Result<Vec<Location<'a>>> {
    let volume = format!("{}:{TARGET}", shared.display());
    site.start_with(MACHINE, &["--volume", &volume], &["sleep", "86400"])?;
    let container = podman.start_with(&["--volume", &volume])?;
    Ok(vec![
        Location::Shared(site),
        Location::Disk(site),
        Location::Podman(container),
        Location::Host(shared),
    ])
}

impl Location<'_> {
    pub(super) fn subject(&self) -> Subject {
        match self {
            Self::Shared(_) => Subject::Shared,
            Self::Disk(_) => Subject::Disk,
            Self::Podman(_) => Subject::Podman,
            Self::Host(_) => Subject::Host,
        }
    }

    /// The command that measures here.
    pub(super) fn command(&self, arguments: &str) -> Command {
        let shell =
            |directory: &str, program: &str| format!("cd {directory} && {program}/{PROGRAM} {arguments}");
        match self {
            Self::Shared(site) => site.command(["exec", MACHINE, "sh", "-c", &shell(TARGET, TARGET)]),
            Self::Disk(site) => site.command(["exec", MACHINE, "sh", "-c", &shell("/", TARGET)]),
            Self::Podman(container) => container.exec(&["sh", "-c", &shell(TARGET, TARGET)]),
            Self::Host(path) => {
                let mut command = Command::new("sh");
                command.args(["-c", &shell(".", ".")]).current_dir(path);
                command
            }
        }
    }
}
