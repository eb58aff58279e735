//! Files that `run` writes once the machine runs, and the machine that it replaces.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use mimeo_engine::machine::MachineName;

use crate::backend::Host;
use crate::error::CliError;

/// Where the machine's id and process id go.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct FileOptions {
    /// Write the machine's id to this file, which must not exist
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    /// Write the process id of the machine's supervisor to this file
    #[arg(long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// podman's other name for the file with the supervisor's process id
    #[arg(long, value_name = "FILE", hide = true)]
    conmon_pidfile: Option<PathBuf>,
    /// Remove the machine that has the same name, running or not, first
    #[arg(long, requires = "name")]
    replace: bool,
}

impl FileOptions {
    /// Creates the file for the id, and removes the machine with the same name if it is to be replaced.
    pub(crate) async fn prepare(&self, host: &Host, name: Option<&MachineName>) -> Result<(), CliError> {
        if let Some(file) = &self.cidfile {
            create_new(file)?;
        }
        let replaced = match name.filter(|_| self.replace) {
            Some(name) => replace(host, name).await,
            None => Ok(()),
        };
        if replaced.is_err() {
            self.give_up();
        }
        replaced
    }

    /// Writes the files for a machine; one that does not run has no process id.
    pub(crate) fn write(&self, id: &str, pid: Option<u32>) -> Result<(), CliError> {
        let pid = pid.map(|pid| pid.to_string());
        let pids = self.pidfile.iter().chain(&self.conmon_pidfile);
        let pids = pids.filter_map(|file| Some((file, pid.as_deref()?)));
        let id = self.cidfile.iter().map(|file| (file, id));
        for (file, text) in id.chain(pids) {
            std::fs::write(file, text)
                .map_err(|source| CliError::io(format!("write {}", file.display()), source))?;
        }
        Ok(())
    }

    /// Refuses files for a process id where there is none.
    pub(crate) fn refuse_process_ids(&self, reason: &str) -> Result<(), CliError> {
        match self.pidfile.iter().chain(&self.conmon_pidfile).next() {
            Some(_) => Err(CliError::usage(format!("cannot write a process id {reason}: omit --pidfile"))),
            None => Ok(()),
        }
    }

    /// Removes the file for the id of a machine that did not start.
    pub(crate) fn give_up(&self) {
        if let Some(file) = &self.cidfile
            && let Err(error) = std::fs::remove_file(file)
        {
            tracing::warn!(component = "run", %error, file = %file.display(), "cannot remove the file for the id");
        }
    }
}

/// As podman: two machines must not write to the same file.
fn create_new(file: &Path) -> Result<(), CliError> {
    let created = OpenOptions::new().write(true).create_new(true).open(file);
    created.and_then(|mut file| file.flush()).map_err(|source| match source.kind() {
        std::io::ErrorKind::AlreadyExists => CliError::usage(format!(
            "--cidfile {} exists: if no other machine uses it, delete it",
            file.display()
        )),
        _ => CliError::io(format!("create --cidfile {}", file.display()), source),
    })
}

async fn replace(host: &Host, name: &MachineName) -> Result<(), CliError> {
    let found = host.machines().await?.into_iter().find(|found| found.record.name == *name);
    match found {
        Some(found) => host.remove(&found, true, None).await,
        None => Ok(()),
    }
}
