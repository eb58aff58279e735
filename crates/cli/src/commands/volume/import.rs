//! `mimeo volume import`: unpacks a tar archive into a named volume.

use std::fs::File;
use std::io::{self, Read, stdin};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use mimeo_agent_protocol::link::Stream;
use mimeo_agent_protocol::message::{Reply, Request, channel};
use mimeo_engine::act::files::Files;
use mimeo_engine::{Engine, act};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::commands::guest_data::check_reply;
use crate::error::CliError;

/// Bytes that are sent at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that are read ahead.
const QUEUE_CHUNKS: usize = 8;

/// Arguments of `mimeo volume import`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo volume import data data.tar.gz\n  tar -C dir -c . | mimeo volume import data -"
)]
pub(crate) struct Args {
    /// The volume's name
    #[arg(value_name = "VOLUME")]
    name: String,
    /// The tar file, uncompressed or compressed with gzip or zstd; - for standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
}

/// Unpacks the archive over what the volume has already. If a machine uses the volume, its guest does so.
pub(crate) async fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let volume = engine.volumes().find(&args.name)?;
    let archive = open(&args.file)?;
    let (files, path) = act::volume_files::open(engine, &volume.name).await?;
    let unpacked = unpack(&files, path, archive, &args.file).await;
    let closed = files.close().await;
    unpacked?;
    closed?;
    Ok(0)
}

fn open(path: &Path) -> Result<Box<dyn Read + Send>, CliError> {
    let input: Box<dyn Read + Send> = if path == Path::new("-") {
        Box::new(stdin())
    } else {
        Box::new(File::open(path).map_err(unreadable(path))?)
    };
    mimeo_image::decompress(input).map_err(unreadable(path))
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> CliError {
    move |source| CliError::io(format!("read {}", path.display()), source)
}

async fn unpack(
    files: &Files,
    directory: String,
    archive: Box<dyn Read + Send>,
    path: &Path,
) -> Result<(), CliError> {
    let Stream { sender, mut receiver } = files.stream(Request::WriteArchive { directory })?;
    let (mut chunks, reading) = read(archive);
    while let Some(chunk) = chunks.recv().await {
        if sender.data(channel::STDIN, chunk).await.is_err() {
            // The guest has failed; its reply says why.
            break;
        }
    }
    drop(chunks);
    let read = reading.await?.map_err(unreadable(path));
    // End of input. If this fails, the guest's reply says why.
    sender.data(channel::STDIN, Bytes::new()).await.ok();
    let reply = receiver.message::<Reply>().await;
    read?;
    check_reply(reply?)
}

/// Reads the archive on a blocking thread, until the receiver is dropped.
fn read(mut archive: Box<dyn Read + Send>) -> (mpsc::Receiver<Bytes>, JoinHandle<io::Result<()>>) {
    let (sender, chunks) = mpsc::channel(QUEUE_CHUNKS);
    let reading = spawn_blocking(move || {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let count = match archive.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                count => count?,
            };
            if count == 0 || sender.blocking_send(Bytes::copy_from_slice(&buffer[..count])).is_err() {
                return Ok(());
            }
        }
    });
    (chunks, reading)
}
