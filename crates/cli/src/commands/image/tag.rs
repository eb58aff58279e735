//! `mimeo tag`: gives an image further names.

use mimeo_engine::Engine;
use mimeo_image::ImageName;

use crate::error::CliError;

/// Arguments of `mimeo tag`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo tag alpine localhost/base:1\n  mimeo tag 0123456789ab base quay.io/team/base:1"
)]
pub(crate) struct Args {
    /// The image: a name or an id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The names; one without a registry is a name of localhost
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Adds the names. A name of another image moves to this one.
pub(crate) fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    engine.images()?.tag(&args.image, &parse_names(&args.names)?)?;
    Ok(0)
}

/// Parses names of local images.
pub(super) fn parse_names(texts: &[String]) -> Result<Vec<ImageName>, CliError> {
    texts.iter().map(|text| Ok(ImageName::new_local(text)?)).collect()
}
