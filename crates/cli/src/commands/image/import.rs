//! `mimeo image import`: imports a root filesystem from a tar file as an image.

use std::fs::File;
use std::io::{Read, stdin};
use std::path::{Path, PathBuf};

use mimeo_engine::Engine;
use mimeo_image::{Change, ImportOptions};

use crate::error::CliError;
use crate::{output, progress};

/// Arguments of `mimeo image import`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo import rootfs.tar.gz localhost/base\n  tar -C root -c . | mimeo import --change 'CMD [\"sh\"]' - localhost/base"
)]
pub(crate) struct Args {
    /// Apply a Dockerfile instruction: CMD, ENTRYPOINT, ENV, WORKDIR, USER, EXPOSE, VOLUME, LABEL or
    /// STOPSIGNAL; can be repeated
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Do not show progress
    #[arg(short, long)]
    quiet: bool,
    /// The tar file, uncompressed or compressed with gzip or zstd; - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The image's name
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// Imports the file and prints the image's id.
pub(crate) async fn run(engine: &Engine, args: Args) -> Result<i32, CliError> {
    let store = engine.images()?;
    let changes = args.change.iter().map(|text| text.parse::<Change>()).collect::<Result<_, _>>()?;
    let name = args.name.map(|name| name.parse()).transpose()?;
    let options = ImportOptions { name, changes, ..ImportOptions::default() };
    let progress = progress::reporter(args.quiet);
    let work = move || -> Result<_, CliError> {
        let (tar, origin) = open(&args.file)?;
        Ok(store.import(tar, origin, &options, progress)?)
    };
    let image = tokio::task::spawn_blocking(work).await??;
    output::line(image.id.to_string())?;
    Ok(0)
}

fn open(file: &Path) -> Result<(Box<dyn Read>, &Path), CliError> {
    if file == Path::new("-") {
        return Ok((Box::new(stdin()), Path::new("standard input")));
    }
    let opened =
        File::open(file).map_err(|source| CliError::io(format!("open {}", file.display()), source))?;
    Ok((Box::new(opened), file))
}
