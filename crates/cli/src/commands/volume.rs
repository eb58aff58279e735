//! `mimeo volume`: named volumes, which outlive machines.

pub(crate) mod create;
pub(crate) mod exists;
pub(crate) mod export;
mod filter;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod ls;
pub(crate) mod prune;
pub(crate) mod rm;
pub(crate) mod row;

use mimeo_engine::Engine;
use mimeo_engine::machine::Record;
use mimeo_engine::volumes::{Volume, VolumeError, VolumeName};

use crate::error::CliError;

/// Commands for named volumes.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Create a named volume
    Create(create::Args),
    /// List named volumes
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    /// Test whether a named volume exists: the exit code is 0 or 1
    Exists(exists::Args),
    /// Write the content of a named volume as a tar archive
    Export(export::Args),
    /// Unpack a tar archive into a named volume
    Import(import::Args),
    /// Show details of named volumes
    Inspect(inspect::Args),
    /// Remove named volumes, and what is in them
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    /// Remove all named volumes that no machine refers to
    Prune(prune::Args),
}

/// Runs the command.
pub(crate) async fn run(engine: &Engine, verb: Verb) -> Result<i32, CliError> {
    match verb {
        Verb::Create(args) => create::run(engine, args),
        Verb::Ls(args) => ls::run(engine, &args),
        Verb::Exists(args) => exists::run(engine, &args),
        Verb::Export(args) => export::run(engine, &args).await,
        Verb::Import(args) => import::run(engine, &args).await,
        Verb::Inspect(args) => inspect::run(engine, &args),
        Verb::Rm(args) => rm::run(engine, &args).await,
        Verb::Prune(args) => prune::run(engine, &args).await,
    }
}

/// The records of all machines, to find out which of them refer to a volume.
pub(crate) struct VolumeUsers(Vec<Record>);

impl VolumeUsers {
    pub(crate) fn load(engine: &Engine) -> Result<Self, CliError> {
        Ok(Self(engine.registry().list()?.into_iter().map(|found| found.record).collect()))
    }

    /// The number of machines that refer to the volume, whether they run or not.
    pub(crate) fn count(&self, name: &VolumeName) -> usize {
        self.referring_to(name).count()
    }

    /// The number of machines that have the volume mounted.
    fn count_live(&self, name: &VolumeName) -> usize {
        self.referring_to(name).filter(|record| record.phase().is_live()).count()
    }

    fn referring_to(&self, name: &VolumeName) -> impl Iterator<Item = &Record> {
        self.0.iter().filter(move |record| record.refers_to(name))
    }
}

/// Finds a volume by its name, or by the beginning of one name; `None` if there is none.
pub(crate) fn find(engine: &Engine, query: &str) -> Result<Option<Volume>, CliError> {
    match engine.volumes().find(query) {
        Ok(volume) => Ok(Some(volume)),
        Err(VolumeError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
