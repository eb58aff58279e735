//! `mimeo rmi`: removes images.

use mimeo_engine::Engine;
use mimeo_image::{RemoveError, Store};

use super::ImageUsers;
use crate::error::CliError;
use crate::output;

/// podman's exit code if there is no such image.
const NO_SUCH: i32 = 1;
/// podman's exit code if the image is in use.
const IN_USE: i32 = 2;

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
pub(crate) fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let store = engine.images()?;
    let users = ImageUsers::load(engine)?;
    let texts = if args.all { all_ids(&store)? } else { args.images.clone() };
    let (mut removed, mut code) = (Vec::new(), 0);
    for text in texts {
        match store.remove(&text, args.force || args.all && is_unused(&store, &users, &text), &|image| {
            users.describe(image)
        }) {
            Ok(image) => removed.push(image),
            Err(RemoveError::NotFound { .. }) if args.ignore => {}
            Err(error) => {
                let error = from_remove_error(error);
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

/// Whether nothing uses the image: `--all` removes it with all its names then.
fn is_unused(store: &Store, users: &ImageUsers, text: &str) -> bool {
    matches!(store.find(text), Ok(Some(image)) if users.describe(&image).is_none())
}

fn all_ids(store: &Store) -> Result<Vec<String>, CliError> {
    Ok(store.list()?.images.iter().map(|image| image.id.hex()).collect())
}

/// Converts the error to podman's message and exit code.
fn from_remove_error(error: RemoveError) -> CliError {
    match error {
        RemoveError::NotFound { text } => {
            CliError::usage(format!("{text}: image not known")).with_code(NO_SUCH)
        }
        RemoveError::InUse { text, user } => {
            CliError::usage(format!("image {text} used by {user}: image is in use by a container"))
                .with_code(IN_USE)
        }
        other => CliError::from(other),
    }
}
