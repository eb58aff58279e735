//! `mimeo image prune`: removes unused images and files.

use mimeo_engine::Engine;

use super::ImageUsers;
use crate::commands::confirm::confirm;
use crate::error::CliError;
use crate::{humanize, output};

/// Arguments of `mimeo image prune`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  mimeo image prune --all --force")]
pub(crate) struct Args {
    /// Remove all images that no machine or snapshot uses, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Removes unused images and files, and prints the ids of the removed images.
pub(crate) fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let images =
        if args.all { "all images that no machine or snapshot uses" } else { "all images without a name" };
    if !args.force && !confirm(&format!("This removes {images}."))? {
        return Ok(0);
    }
    let users = ImageUsers::load(engine)?;
    let pruned = engine.images()?.prune(args.all, &|image| users.describe(image))?;
    if args.json {
        output::json(&pruned)?;
        return Ok(0);
    }
    pruned.deleted.iter().try_for_each(|id| output::line(id.hex()))?;
    if pruned.busy {
        tracing::warn!(component = "images", "a pull is running: prune again after it to remove the rest");
    }
    for path in &pruned.set_aside {
        tracing::warn!(component = "images", path = %path.display(), "an image record could not be read and was set aside");
    }
    tracing::info!(component = "images", freed = humanize::size(pruned.freed, 3), "pruned");
    Ok(0)
}
