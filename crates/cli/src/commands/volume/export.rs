//! `mimeo volume export`: writes the content of a named volume as a tar archive.

use std::path::PathBuf;

use mimeo_agent_protocol::message::Request;
use mimeo_engine::{Engine, act};

use crate::commands::export::{refuse_terminal, write_archive, write_bytes};
use crate::error::CliError;

/// The end of a tar archive.
const EMPTY_ARCHIVE: [u8; 1024] = [0; 1024];

/// Arguments of `mimeo volume export`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo volume export --output data.tar data\n  mimeo volume export data | tar -t"
)]
pub(crate) struct Args {
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The volume's name
    #[arg(value_name = "VOLUME")]
    name: String,
}

/// Writes the archive. If a machine uses the volume, its guest reads it; what is mounted below is not part of it.
pub(crate) async fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let output = args.output.as_deref();
    refuse_terminal(output)?;
    let volume = engine.volumes().find(&args.name)?;
    if !engine.volumes().has_disk(&volume.name) {
        // A guest that mounted it would take away its first use, in which it gets an image's content.
        return write_bytes(&EMPTY_ARCHIVE, output).map(|()| 0);
    }
    let (files, path) = act::volume_files::open(engine, &volume.name).await?;
    write_archive(files, Request::ReadArchive { path, follow: true, content: true }, output).await
}
