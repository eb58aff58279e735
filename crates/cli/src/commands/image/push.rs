//! `mimeo push`: pushes an image to a registry, or writes it to an archive or a directory.

use std::path::PathBuf;

use mimeo_engine::Engine;
use mimeo_image::{Destination, Digest, ExportFormat, Exported, Image, Store};

use super::archive;
use super::registry::RegistryArgs;
use crate::error::CliError;
use crate::progress;

/// Arguments of `mimeo push`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo push quay.io/team/app:1\n  mimeo push app docker://quay.io/team/app:1\n  mimeo push app oci-archive:app.tar:latest"
)]
pub(crate) struct Args {
    #[command(flatten)]
    registry: RegistryArgs,
    /// User name and password, instead of those of the login file
    #[arg(long, value_name = "USER:PASSWORD")]
    creds: Option<String>,
    /// Write the digest of the pushed manifest to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    /// Do not show progress
    #[arg(short, long)]
    quiet: bool,
    /// The image: a name or an id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// docker://NAME, NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME] or dir:DIR; by
    /// default the image's name
    #[arg(value_name = "DESTINATION")]
    destination: Option<String>,
}

/// Pushes the image.
pub(crate) async fn run(engine: &Engine, args: Args) -> Result<i32, CliError> {
    let store = engine.images()?;
    let (image, name) = store.find_named(&args.image)?.ok_or_else(|| super::unknown(&args.image))?;
    let destination = match (&args.destination, name) {
        (Some(text), _) => text.parse()?,
        (None, Some(name)) => Destination::Registry(name.parse()?),
        (None, None) => {
            return Err(CliError::usage(format!(
                "cannot push {}: give a destination, or the image by its name",
                args.image
            )));
        }
    };
    let digest = send(store, image, destination, &args).await?;
    if let Some(path) = &args.digestfile {
        std::fs::write(path, digest.to_string())
            .map_err(|source| CliError::io(format!("write {}", path.display()), source))?;
    }
    Ok(0)
}

async fn send(store: Store, image: Image, to: Destination, args: &Args) -> Result<Digest, CliError> {
    let exported =
        |name: Option<String>| [Exported { image: image.clone(), names: name.into_iter().collect() }];
    let (images, format, path) = match to {
        Destination::Registry(name) => {
            let options = args.registry.options(args.creds.as_deref())?;
            return Ok(store.push(&image, &name, &options, progress::reporter(args.quiet)).await?);
        }
        Destination::OciDir { path, tag } => (exported(tag), ExportFormat::OciDir, path),
        Destination::OciArchive { path, tag } => (exported(tag), ExportFormat::OciArchive, path),
        Destination::DockerArchive { path, name } => {
            (exported(name.map(|name| name.to_string())), ExportFormat::DockerArchive, path)
        }
        Destination::Dir { path } => (exported(None), ExportFormat::DockerDir, path),
    };
    let digests = match format.is_directory() {
        true => tokio::task::spawn_blocking(move || store.export_directory(&images, format, &path)).await??,
        false => archive::write(store, images.to_vec(), format, &path).await?,
    };
    Ok(digests.into_iter().next().unwrap_or(image.digest))
}
