//! `mimeo base add`: adds a base from an image.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use mimeo_base::{AddError, AddOptions, BaseName, Check, Manifest, Outcome, Store};
use tokio::task::JoinError;

use crate::error::CliError;
use crate::interruption::Interruption;
use crate::output;

/// Arguments of `mimeo base add`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo base add debian debian-12-generic-amd64.qcow2\n  mimeo base add debian https://example.org/debian-12.qcow2"
)]
pub(crate) struct Args {
    /// Do not print the warnings of the validation
    #[arg(short, long)]
    quiet: bool,
    /// The base's name
    name: BaseName,
    /// The image: a raw or qcow2 file, or the http(s) URL of one. It is not changed
    #[arg(value_name = "FILE|URL")]
    image: String,
}

/// Adds the base and prints its name. A signal undoes that.
pub(crate) async fn run(store: Store, args: Args) -> Result<i32, CliError> {
    let mut interruption = Interruption::listen();
    if store.find(&args.name)?.is_some() {
        return Err(AddError::Exists { name: args.name }.into());
    }
    let download = match is_url(&args.image) {
        true => tokio::select! {
            download = store.download(&args.image) => Some(download?),
            signal = interruption.received() => return Ok(128 + signal),
        },
        false => None,
    };
    let path = download.as_ref().map_or_else(|| PathBuf::from(&args.image), |file| file.path().to_owned());
    match add(store, &args, path, &mut interruption).await? {
        Ok(added) => print(&added, args.quiet),
        Err(signal) => Ok(128 + signal),
    }
}

fn is_url(image: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| image.starts_with(scheme))
}

/// Adds the base; returns the signal that came meanwhile, unless it was complete then.
async fn add(
    store: Store,
    args: &Args,
    path: PathBuf,
    interruption: &mut Interruption,
) -> Result<Result<Manifest, i32>, CliError> {
    let name = args.name.clone();
    let options = AddOptions { source: Some(args.image.clone()), ..AddOptions::default() };
    let cancelled = options.cancelled.clone();
    // It blocks for as long as the image is large.
    let mut task = tokio::task::spawn_blocking(move || store.add(&name, &path, &options));
    let join_error = |error: JoinError| CliError::io("add the base", error.into());
    tokio::select! {
        added = &mut task => Ok(Ok(added.map_err(join_error)??)),
        signal = interruption.received() => {
            cancelled.store(true, Ordering::Relaxed);
            Ok(task.await.map_err(join_error)?.map_err(|_| signal))
        }
    }
}

fn print(added: &Manifest, quiet: bool) -> Result<i32, CliError> {
    if !quiet {
        added.checks.iter().filter(|check| check.outcome == Outcome::Warning).for_each(warn);
    }
    output::line(added.name.as_str())?;
    Ok(0)
}

fn warn(check: &Check) {
    let hint = check.hint.as_deref().unwrap_or_default();
    tracing::warn!(component = "bases", "{}: {}: {hint}", check.name, check.detail);
}
