//! `mimeo export`: writes a machine's filesystem as a tar archive.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use mimeo_agent_protocol::link::Stream;
use mimeo_agent_protocol::message::Request;
use mimeo_engine::act;
use mimeo_engine::act::files::Files;

use crate::backend::{Host, local};
use crate::commands::guest_data::next_chunk;
use crate::commands::select::Machine;
use crate::error::CliError;
use crate::interruption::Interruption;
use crate::output;
use crate::whole_file::{create_beside, destination, is_special};

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
pub(crate) async fn run(host: &Host, args: &Args) -> Result<i32, CliError> {
    let engine = local(host, "export a machine")?;
    let output = args.output.as_deref();
    refuse_terminal(output)?;
    let machine = args.machine.find(host).await?;
    let timeout = if output.is_some() { act::files::TIMEOUT } else { act::files::PIPE_TIMEOUT };
    let files = act::files::open(engine, &machine, timeout).await?;
    write_archive(files, Request::ReadRoot, output).await
}

/// Refuses to write an archive to a terminal.
pub(crate) fn refuse_terminal(output: Option<&Path>) -> Result<(), CliError> {
    if output.is_some() || !std::io::stdout().is_terminal() {
        return Ok(());
    }
    Err(CliError::usage("refusing to write an archive to a terminal: use --output, or redirect the output"))
}

/// Writes the archive that the guest replies with, and closes the files.
pub(crate) async fn write_archive(
    files: Files,
    request: Request,
    output: Option<&Path>,
) -> Result<i32, CliError> {
    let written = match files.guest(request).await {
        Ok((_, stream)) => write(stream, output).await,
        Err(error) => Err(error.into()),
    };
    let closed = files.close().await;
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
    // A directory is refused by the open.
    if is_special(path) || path.is_dir() {
        let file = File::options().write(true).open(path);
        return copy(stream, &file.map_err(unwritable(path))?, path).await;
    }
    write_whole(stream, path).await
}

/// Writes the archive beside its place, and renames it. A signal leaves the file as it was.
async fn write_whole(stream: Stream, path: &Path) -> Result<(), CliError> {
    let mut interruption = Interruption::listen();
    let destination = destination(path);
    let file = create_beside(&destination).map_err(unwritable(path))?;
    tokio::select! {
        signal = interruption.received() => return Err(CliError::usage("interrupted").with_code(128 + signal)),
        copied = copy(stream, file.as_file(), path) => copied?,
    }
    file.as_file().sync_all().map_err(unwritable(path))?;
    file.persist(destination).map_err(|error| unwritable(path)(error.error))?;
    Ok(())
}

/// Writes a complete archive.
pub(crate) fn write_bytes(bytes: &[u8], path: Option<&Path>) -> Result<(), CliError> {
    let Some(path) = path else { return output::bytes(bytes) };
    if is_special(path) || path.is_dir() {
        let file = File::options().write(true).open(path);
        return file.and_then(|mut file| file.write_all(bytes)).map_err(unwritable(path));
    }
    let destination = destination(path);
    let mut file = create_beside(&destination).map_err(unwritable(path))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(unwritable(path))?;
    file.persist(destination).map_err(|error| unwritable(path)(error.error))?;
    Ok(())
}

async fn copy(mut stream: Stream, mut file: &File, path: &Path) -> Result<(), CliError> {
    while let Some(chunk) = next_chunk(&mut stream).await? {
        file.write_all(&chunk).map_err(unwritable(path))?;
    }
    Ok(())
}

fn unwritable(path: &Path) -> impl Fn(io::Error) -> CliError {
    move |source| CliError::io(format!("write {}", path.display()), source)
}
