//! `mimeo save`: writes images to an archive or a directory.

use std::io::{BufWriter, IsTerminal, stdout};
use std::path::{Path, PathBuf};

use mimeo_engine::Engine;
use mimeo_image::{ExportFormat, Exported, Store};

use super::archive;
use crate::error::CliError;

/// Arguments of `mimeo save`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo save -o alpine.tar alpine\n  mimeo save nginx redis | ssh host mimeo load\n  mimeo save --format oci-dir -o layout alpine"
)]
pub(crate) struct Args {
    /// The kind of file or directory
    #[arg(long, default_value = "docker-archive", value_enum)]
    format: Format,
    /// The file or directory; an existing file is replaced. Without it, the archive goes to standard output
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Accepted for compatibility with podman: several arguments are several images always
    #[arg(short, long)]
    multi_image_archive: bool,
    /// Accepted for compatibility with podman: nothing but errors is shown
    #[arg(short, long)]
    quiet: bool,
    /// Images: names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// The kind of file or directory.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// A tar file as by docker save, with uncompressed layers
    DockerArchive,
    /// An OCI layout in a tar file
    OciArchive,
    /// An OCI layout; one that exists keeps its other images
    OciDir,
    /// A directory with a manifest of docker's schema 2
    DockerDir,
}

impl From<Format> for ExportFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::DockerArchive => Self::DockerArchive,
            Format::OciArchive => Self::OciArchive,
            Format::OciDir => Self::OciDir,
            Format::DockerDir => Self::DockerDir,
        }
    }
}

/// Writes the images.
pub(crate) async fn run(engine: &Engine, args: Args) -> Result<i32, CliError> {
    let store = engine.images()?;
    let format = ExportFormat::from(args.format);
    let images = find_all(&store, &args.images)?;
    match args.output {
        Some(path) if !format.is_directory() => {
            archive::write(store, images, format, &path).await?;
        }
        path => {
            tokio::task::spawn_blocking(move || write(&store, &images, format, path.as_deref())).await??
        }
    }
    Ok(0)
}

/// Finds the images. One that is given by a name keeps only that name, as in podman.
fn find_all(store: &Store, texts: &[String]) -> Result<Vec<Exported>, CliError> {
    let find = |text: &String| {
        let (image, name) = store.find_named(text)?.ok_or_else(|| super::unknown(text))?;
        Ok(Exported { image, names: name.into_iter().collect() })
    };
    texts.iter().map(find).collect()
}

/// Writes the images to a directory or to standard output.
fn write(
    store: &Store,
    images: &[Exported],
    format: ExportFormat,
    to: Option<&Path>,
) -> Result<(), CliError> {
    match to {
        Some(path) => drop(store.export_directory(images, format, path)?),
        None if format.is_directory() => {
            return Err(CliError::usage("cannot save a directory to standard output: give --output"));
        }
        None if stdout().is_terminal() => {
            return Err(CliError::usage("refusing to save to terminal. Use -o flag or redirect"));
        }
        None => drop(store.export_archive(images, format, BufWriter::new(stdout().lock()))?),
    }
    Ok(())
}
