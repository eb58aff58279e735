//! `mimeo system prune`: removes machines that do not run, unused images and, on request, unused volumes.

use crate::backend::{Host, local};
use crate::commands::confirm::confirm;
use crate::commands::image::ImageUsers;
use crate::commands::prune::prune_machines;
use crate::commands::volume::prune::{remove_all, unused};
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
    /// Also remove all named volumes that no machine refers to
    #[arg(long)]
    volumes: bool,
    /// Only machines that match, as for `mimeo ps`; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

/// Removes the machines, volumes and images, and prints their ids and names. Snapshots stay: `snapshot prune` removes those.
pub(crate) async fn run(host: &Host, args: &Args) -> Result<i32, CliError> {
    let engine = local(host, "prune the system")?;
    let images =
        if args.all { "all images that no machine or snapshot uses" } else { "all images without a name" };
    let volumes = if args.volumes { "\t- all named volumes that no machine refers to\n" } else { "" };
    let warning = format!("This command removes:\n\t- all machines that do not run\n\t- {images}\n{volumes}");
    if !args.force && !confirm(&warning)? {
        return Ok(0);
    }
    let (machines, mut code) = prune_machines(host, &args.filter).await?;
    print("Deleted Machines", &machines)?;
    if args.volumes {
        // After the machines, whose volumes are unused then.
        let (volumes, failed) = remove_all(engine, unused(engine, &[])?).await;
        print("Deleted Volumes", &volumes)?;
        code = if code == 0 { failed } else { code };
    }
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
