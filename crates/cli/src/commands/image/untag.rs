//! `mimeo untag`: takes names from an image.

use mimeo_engine::Engine;

use super::tag::parse_names;
use crate::error::CliError;

/// Arguments of `mimeo untag`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mimeo untag 0123456789ab\n  mimeo untag alpine localhost/base:1")]
pub(crate) struct Args {
    /// The image: a name or an id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The names to take; without one, all
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// Removes the names. The image stays, perhaps without a name.
pub(crate) fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    engine.images()?.untag(&args.image, &parse_names(&args.names)?)?;
    Ok(0)
}
