//! `mimeo rmi`: removes images.

use super::ImageUsers;
use crate::backend::Host;
use crate::error::CliError;
use crate::output;

/// podman's exit code if there is no such image.
const NO_SUCH: i32 = 1;

/// Arguments of `mimeo rmi`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mimeo rmi alpine\n  mimeo rmi --all")]
pub(crate) struct Args {
    /// Remove images that are in use or have several names; running machines keep their image until they end
    #[arg(short, long)]
    force: bool,
    /// Remove all images that no machine or snapshot uses
    #[arg(short, long, conflicts_with = "images")]
    all: bool,
    /// Do not fail for images that do not exist
    #[arg(short, long)]
    ignore: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Names or ids of images
    #[arg(required_unless_present = "all", value_name = "IMAGE")]
    images: Vec<String>,
}

/// Removes each image. An error is printed and does not stop the others.
pub(crate) async fn run(host: &Host, args: &Args) -> Result<i32, CliError> {
    let targets = if args.all { all_images(host, args.force).await? } else { named_images(args) };
    let (mut removed, mut code) = (Vec::new(), 0);
    for (text, force) in targets {
        match host.remove_image(&text, force).await {
            Ok(image) => removed.push(image),
            Err(error) if args.ignore && error.exit_code() == NO_SUCH => {}
            Err(error) => {
                output::error(&error);
                code = if code == NO_SUCH { NO_SUCH } else { error.exit_code() };
            }
        }
    }
    if args.json {
        output::json(&removed)?;
        return Ok(code);
    }
    for image in &removed {
        image.untagged.iter().try_for_each(|name| output::line(format!("Untagged: {name}")))?;
        image.deleted.iter().try_for_each(|id| output::line(format!("Deleted: {}", id.hex())))?;
    }
    Ok(code)
}

/// The images that the arguments name, and whether each is removed in any case.
fn named_images(args: &Args) -> Vec<(String, bool)> {
    args.images.iter().map(|text| (text.clone(), args.force)).collect()
}

/// All images. One that nothing uses is removed with all its names.
async fn all_images(host: &Host, force: bool) -> Result<Vec<(String, bool)>, CliError> {
    let users = ImageUsers::from_records(host.machines().await?, host.snapshots().await?);
    let images = host.images().await?.images;
    let target = |image: &mimeo_image::Image| (image.id.hex(), force || users.describe(image).is_none());
    Ok(images.iter().map(target).collect())
}
