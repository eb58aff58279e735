//! `mimeo load`: loads images from an archive.

use std::io::{IsTerminal, stdin};
use std::path::{Path, PathBuf};

use mimeo_engine::Engine;
use mimeo_image::{LoadedImage, PullOptions};

use crate::error::CliError;
use crate::{output, progress};

/// Arguments of `mimeo load`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mimeo load -i alpine.tar.gz\n  ssh host podman save nginx | mimeo load")]
pub(crate) struct Args {
    /// The archive, or an OCI layout directory; by default standard input
    #[arg(short, long, value_name = "PATH")]
    input: Option<PathBuf>,
    /// Do not show progress
    #[arg(short, long)]
    quiet: bool,
}

/// Loads all images of the archive, and prints the name of each.
pub(crate) async fn run(engine: &Engine, args: Args) -> Result<i32, CliError> {
    let store = engine.images()?;
    let (options, progress) = (PullOptions::default(), progress::reporter(args.quiet));
    let images = match &args.input {
        Some(path) => store.load(path, &options, progress).await?,
        None if stdin().is_terminal() => {
            return Err(CliError::usage(
                "cannot read from terminal, use command-line redirection or the --input flag",
            ));
        }
        None => store.load_stream(stdin(), Path::new("standard input"), &options, progress).await?,
    };
    for LoadedImage { image, names } in images {
        let loaded = if names.is_empty() { vec![image.id.to_string()] } else { names };
        loaded.iter().try_for_each(|name| output::line(format!("Loaded image: {name}")))?;
    }
    Ok(0)
}
