//! `mimeo image exists`: tests whether an image is in the local store.

use crate::backend::Host;
use crate::error::CliError;

/// Arguments of `mimeo image exists`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image: its name, its id or the start of its id
    image: String,
}

/// Returns 0 if the image exists, and 1 otherwise.
pub(crate) async fn run(host: &Host, args: &Args) -> Result<i32, CliError> {
    Ok(i32::from(host.inspect_image(&args.image).await?.is_none()))
}
