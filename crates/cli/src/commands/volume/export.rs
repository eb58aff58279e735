//! `mimeo volume export`: writes the content of a named volume as a tar archive.

use std::io::IsTerminal;
use std::path::PathBuf;

use mimeo_agent_protocol::message::Request;
use mimeo_engine::{Engine, act};

use crate::commands::export::{write, write_bytes};
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

/// Writes the archive. If a machine uses the volume, its guest reads it; what is mounted below is part of it.
pub(crate) async fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    if args.output.is_none() && std::io::stdout().is_terminal() {
        return Err(CliError::usage(
            "refusing to write an archive to a terminal: use --output, or redirect the output",
        ));
    }
    let volume = engine.volumes().find(&args.name)?;
    if !engine.volumes().has_disk(&volume.name) {
        // A guest that mounted it would take away its first use, in which it gets an image's content.
        return write_bytes(&EMPTY_ARCHIVE, args.output.as_deref()).map(|()| 0);
    }
    let (files, path) = act::volume_files::open(engine, &volume.name).await?;
    let written = match files.guest(Request::ReadArchive { path, follow: true, content: true }).await {
        Ok((_, stream)) => write(stream, args.output.as_deref()).await,
        Err(error) => Err(error.into()),
    };
    let closed = files.close().await;
    written?;
    closed?;
    Ok(0)
}
