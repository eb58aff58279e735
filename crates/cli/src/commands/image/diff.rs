//! `mimeo image diff`: lists what an image's topmost layer has changed, or how two images differ.

use mimeo_engine::Engine;

use crate::commands::diff::diff_image;
use crate::error::CliError;

/// Arguments of `mimeo image diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mimeo image diff app\n  mimeo image diff alpine:3.20 alpine:3.19")]
pub(crate) struct Args {
    /// Print as JSON; the only format besides the default
    #[arg(long, value_name = "FORMAT", value_parser = ["json"])]
    format: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// The image: a name or an id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// An image to compare it with, instead of with its own layers below the topmost
    #[arg(value_name = "IMAGE")]
    base: Option<String>,
}

/// Prints the changes.
pub(crate) async fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let is_json = args.json || args.format.is_some();
    diff_image(engine, &args.image, args.base.as_deref(), is_json).await
}
