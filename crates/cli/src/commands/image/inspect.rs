//! `mimeo image inspect`: shows details of images.

pub(crate) mod podman;

use crate::backend::Host;
use crate::error::CliError;
use crate::output;
use crate::template::Format;

/// Arguments of `mimeo image inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  mimeo image inspect --format '{{.Config.Cmd}}' alpine")]
pub(crate) struct Args {
    /// `json`, or a template of Go's text/template with fields such as {{.Id}}
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print JSON (the default)
    #[arg(long)]
    json: bool,
    /// Names or ids of images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Prints a JSON array of the images that exist, and an error for each other name.
pub(crate) async fn run(host: &Host, args: &Args) -> Result<i32, CliError> {
    let (mut found, mut code) = (Vec::new(), 0);
    for text in &args.images {
        match host.inspect_image(text).await? {
            Some(inspection) => found.push(inspection),
            None => {
                let error = CliError::usage(format!("inspecting object: {text}: image not known"));
                output::error(&error);
                code = error.exit_code();
            }
        }
    }
    match Format::from_arguments(args.format.as_deref(), args.json) {
        Some(Format::Text(text)) => {
            let values = found.iter().map(podman::fields).collect::<Result<Vec<_>, _>>()?;
            text.print(&values, &[])?;
        }
        Some(Format::Json) | None => output::json(&found)?,
    }
    Ok(code)
}
