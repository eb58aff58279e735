//! `mimeo commit`: makes an image of what a machine's container has changed.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use mimeo_agent_protocol::link::Stream;
use mimeo_agent_protocol::message::{ChangesFormat, Request};
use mimeo_engine::{Engine, Found, Selector, act};
use mimeo_image::{Change, HistoryEntry, Image, ImageConfig, ImageName, LayerOptions, Store};
use tokio::sync::mpsc;

use crate::backend::{Host, local};
use crate::commands::guest_data::next_chunk;
use crate::error::CliError;
use crate::{output, progress, view};

/// Chunks of the layer in transit, at most.
const QUEUE_CHUNKS: usize = 8;

/// Arguments of `mimeo commit`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo commit web localhost/web:patched\n  mimeo commit --change 'CMD [\"nginx\"]' --message 'set up' web mine"
)]
pub(crate) struct Args {
    /// The image's author
    #[arg(short, long)]
    author: Option<String>,
    /// Apply a Dockerfile instruction: CMD, ENTRYPOINT, ENV, WORKDIR, USER, EXPOSE, VOLUME, LABEL or
    /// STOPSIGNAL; can be repeated
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Write the image's id to this file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// A remark for the image's history
    #[arg(short, long)]
    message: Option<String>,
    /// Do not show progress
    #[arg(short, long)]
    quiet: bool,
    /// The machine: its name, its id or the start of its id
    #[arg(value_name = "MACHINE")]
    machine: String,
    /// The image's name; without it, the image has only its id
    #[arg(value_name = "IMAGE")]
    image: Option<String>,
}

/// Makes the image and prints its id.
pub(crate) async fn run(host: &Host, args: Args) -> Result<i32, CliError> {
    let engine = local(host, "commit a machine")?;
    let changes = args.change.iter().map(|text| text.parse::<Change>()).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<ImageName> = args.image.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
    let found = engine.registry().find(&Selector::NameOrId(args.machine.clone()))?;
    let store = engine.images()?;
    let base = base_image(&store, &found)?;
    let step = HistoryEntry {
        created: None,
        created_by: Some(found.record.process.args.join(" ")),
        author: args.author.clone(),
        comment: args.message.clone(),
        empty_layer: false,
    };
    let config = config(&found, &base, &changes);
    let options = LayerOptions { config: Some(config), step, names, ..LayerOptions::default() };
    let image = add_layer(engine, &found, store, base, options, args.quiet).await?;
    let id = view::bare_id(&image.id.to_string()).to_owned();
    if let Some(path) = &args.iidfile {
        let written = std::fs::write(path, format!("sha256:{id}"));
        written.map_err(|source| CliError::io(format!("write {}", path.display()), source))?;
    }
    output::line(id)?;
    Ok(0)
}

fn base_image(store: &Store, found: &Found) -> Result<Image, CliError> {
    let missing = || CliError::usage(format!("machine {} has no image", found.record.name));
    let image = found.record.image.as_ref().ok_or_else(missing)?;
    let removed = || CliError::usage(format!("the image {} of the machine was removed", image.name));
    store.find(&image.id)?.ok_or_else(removed)
}

/// The base's configuration with what `run` or `create` has set for the machine, and with the changes.
fn config(found: &Found, base: &Image, changes: &[Change]) -> ImageConfig {
    let (spec, mut config) = (&found.record.spec, base.config.clone());
    if let Some(entrypoint) = &spec.entrypoint {
        config.entrypoint = entrypoint.iter().filter(|word| !word.is_empty()).cloned().collect();
        config.cmd = Vec::new();
    }
    if !spec.command.is_empty() {
        config.cmd.clone_from(&spec.command);
    }
    config.workdir = spec.workdir.clone().unwrap_or(config.workdir);
    config.user = spec.user.clone().unwrap_or(config.user);
    for (name, value) in found.record.requested_env() {
        config.env.retain(|pair| pair.split_once('=').map(|(name, _)| name) != Some(&*name));
        config.env.push(format!("{name}={value}"));
    }
    config.labels.extend(spec.labels.clone());
    changes.iter().for_each(|change| change.apply(&mut config));
    config
}

/// Streams the layer from the guest into the store.
async fn add_layer(
    engine: &Engine,
    found: &Found,
    store: Store,
    base: Image,
    options: LayerOptions,
    quiet: bool,
) -> Result<Image, CliError> {
    let files = act::files::open(engine, found, act::files::TIMEOUT).await?;
    let added = match files.guest(Request::ReadChanges { format: ChangesFormat::Layer }).await {
        Ok((_, stream)) => {
            let (sender, chunks) = mpsc::channel(QUEUE_CHUNKS);
            let origin = PathBuf::from(format!("changes of machine {}", found.record.name));
            let adding = tokio::task::spawn_blocking(move || {
                let tar = LayerReader { chunks, unread: Bytes::new() };
                store.add_layer(&base, tar, Path::new(&origin), &options, progress::reporter(quiet))
            });
            forward(stream, sender).await;
            adding.await?.map_err(CliError::from)
        }
        Err(error) => Err(error.into()),
    };
    let closed = files.close().await;
    let image = added?;
    closed?;
    Ok(image)
}

type Received = io::Result<Bytes>;

/// Forwards the layer; a failure of the guest, too, so that no part of a layer becomes an image.
async fn forward(mut stream: Stream, layer: mpsc::Sender<Received>) {
    loop {
        let chunk = match next_chunk(&mut stream).await {
            Ok(Some(chunk)) => Ok(chunk),
            Ok(None) => return,
            Err(error) => Err(io::Error::other(error.to_string())),
        };
        let failed = chunk.is_err();
        // The store has refused the layer, and reports why.
        if layer.send(chunk).await.is_err() || failed {
            return;
        }
    }
}

/// Reads the layer from a blocking thread.
struct LayerReader {
    chunks: mpsc::Receiver<Received>,
    unread: Bytes,
}

impl Read for LayerReader {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        while self.unread.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.unread = chunk?,
                None => return Ok(0),
            }
        }
        let count = target.len().min(self.unread.len());
        target[..count].copy_from_slice(&self.unread.split_to(count));
        Ok(count)
    }
}
