//! `mimeo pull`: pulls images.

use mimeo_engine::Engine;
use mimeo_image::{PullOptions, Source};

use crate::error::CliError;
use crate::{output, progress};

/// Arguments of `mimeo pull`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo pull alpine\n  mimeo pull quay.io/fedora/fedora:40\n  mimeo pull oci:./layout:tag"
)]
pub(crate) struct Args {
    /// Do not show progress
    #[arg(short, long)]
    quiet: bool,
    /// Use plain HTTP for this registry, HOST[:PORT]; can be repeated
    #[arg(long, value_name = "HOST")]
    insecure_registry: Vec<String>,
    /// Layers to download at the same time
    #[arg(long, default_value_t = 4, value_name = "N")]
    jobs: usize,
    /// Images: names, oci:DIR[:TAG], oci-archive:FILE or docker-archive:FILE
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Pulls each image and prints its id.
pub(crate) async fn run(engine: &Engine, args: Args) -> Result<i32, CliError> {
    let store = engine.images()?;
    let options = PullOptions {
        insecure_registries: args.insecure_registry,
        concurrency: args.jobs.max(1),
        ..PullOptions::default()
    };
    for image in &args.images {
        let source: Source = image.parse()?;
        let pulled = store.pull(&source, &options, progress::reporter(args.quiet)).await?;
        output::line(pulled.id.hex())?;
    }
    Ok(0)
}
