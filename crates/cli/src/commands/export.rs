//! `mimeo export`: writes a machine's filesystem as a tar archive.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use mimeo_agent_protocol::link::Stream;
use mimeo_agent_protocol::message::Request;
use mimeo_engine::{Engine, act};

use crate::commands::guest_data::next_chunk;
use crate::commands::select::Machine;
use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mimeo export --output web.tar web\n  mimeo export web | tar -t")]
pub(crate) struct Args {
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    machine: Machine,
}

/// Writes the archive. What is mounted in the container, such as volumes, is not part of it.
pub(crate) async fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    if args.output.is_none() && std::io::stdout().is_terminal() {
        return Err(CliError::usage(
            "refusing to write an archive to a terminal: use --output, or redirect the output",
        ));
    }
    let files = act::files::open(engine, &args.machine.find(engine)?).await?;
    let request = Request::ReadArchive { path: "/".to_owned(), follow: false, one_filesystem: true };
    let written = match files.guest(request).await {
        Ok((_, stream)) => write(stream, args.output.as_deref()).await,
        Err(error) => Err(error.into()),
    };
    let closed = files.close().await;
    if let (Err(_), Some(path)) = (&written, &args.output) {
        discard(path);
    }
    written?;
    closed?;
    Ok(0)
}

async fn write(mut stream: Stream, path: Option<&Path>) -> Result<(), CliError> {
    let Some(path) = path else {
        while let Some(chunk) = next_chunk(&mut stream).await? {
            output::bytes(&chunk)?;
        }
        return Ok(());
    };
    let io = |source| CliError::io(format!("write {}", path.display()), source);
    let mut file = File::create(path).map_err(io)?;
    while let Some(chunk) = next_chunk(&mut stream).await? {
        file.write_all(&chunk).map_err(io)?;
    }
    Ok(())
}

/// Removes an archive that is not complete. A device or a pipe stays.
fn discard(path: &Path) {
    if path.is_file()
        && let Err(error) = std::fs::remove_file(path)
    {
        tracing::warn!(component = "export", path = %path.display(), %error, "cannot remove the incomplete archive");
    }
}
