//! How a command names its machines.

use mimeo_engine::Selector;

use crate::error::CliError;

/// One machine, by name or by its monitor's process id.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Machine {
    /// The machine: its name, its id, or the beginning of its id
    #[arg(value_name = "MACHINE", required_unless_present = "pid")]
    pub(crate) name: Option<String>,
    /// The machine whose monitor has this process id
    #[arg(long, conflicts_with = "name")]
    pub(crate) pid: Option<u32>,
}

impl Machine {
    /// What to look for.
    pub(crate) fn selector(&self) -> Result<Selector, CliError> {
        match (&self.name, self.pid) {
            (_, Some(pid)) => Ok(Selector::Pid(pid)),
            (Some(name), None) => Ok(Selector::Word(name.clone())),
            (None, None) => Err(CliError::usage("name a machine, or give --pid")),
        }
    }
}
