//! `mimeo system prune`: removes machines that do not run, and unused images.

use mimeo_engine::Engine;

use crate::commands::confirm::confirm;
use crate::commands::image::ImageUsers;
use crate::commands::prune::prune_machines;
use crate::error::CliError;
use crate::{humanize, output};

/// Arguments of `mimeo system prune`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  mimeo system prune --all --force")]
pub(crate) struct Args {
    /// Also remove all images that no machine or snapshot uses, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    force: bool,
    /// Accepted for compatibility with podman: machines have no volumes of their own
    #[arg(long, hide = true)]
    volumes: bool,
    /// Only machines that match, as for `mimeo ps`; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

/// Removes the machines and images, and prints their ids. Snapshots stay: `snapshot prune` removes those.
pub(crate) async fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let images =
        if args.all { "all images that no machine or snapshot uses" } else { "all images without a name" };
    let warning = format!("This command removes:\n\t- all machines that do not run\n\t- {images}\n");
    if !args.force && !confirm(&warning)? {
        return Ok(0);
    }
    let (machines, code) = prune_machines(engine, &args.filter).await?;
    print("Deleted Machines", &machines)?;
    let users = ImageUsers::load(engine)?;
    let pruned = engine.images()?.prune(args.all, &|image| users.describe(image))?;
    print("Deleted Images", &pruned.deleted.iter().map(|id| id.hex()).collect::<Vec<_>>())?;
    output::line(format!("Total reclaimed space of images: {}", humanize::size(pruned.freed, 4)))?;
    Ok(code)
}

fn print(heading: &str, ids: &[String]) -> Result<(), CliError> {
    if ids.is_empty() {
        return Ok(());
    }
    output::line(heading)?;
    ids.iter().try_for_each(output::line)
}
