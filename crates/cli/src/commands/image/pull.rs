//! `mimeo pull`: pulls images.

use mimeo_image::PullOptions;

use super::platform::PlatformArgs;
use super::registry::RegistryArgs;
use crate::backend::Host;
use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo pull`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo pull alpine\n  mimeo pull quay.io/fedora/fedora:40\n  mimeo pull oci:./layout:tag"
)]
pub(crate) struct Args {
    /// Do not show progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    registry: RegistryArgs,
    /// User name and password, instead of those of the login file
    #[arg(long, value_name = "USER:PASSWORD")]
    creds: Option<String>,
    #[command(flatten)]
    platform: PlatformArgs,
    /// Pull all tags of the repository (not supported)
    #[arg(short, long, hide = true)]
    all_tags: bool,
    /// Layers to download at the same time
    #[arg(long, default_value_t = 4, value_name = "N")]
    jobs: usize,
    /// Images: names, oci:DIR[:TAG], oci-archive:FILE or docker-archive:FILE
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Pulls each image and prints its id.
pub(crate) async fn run(host: &Host, args: Args) -> Result<i32, CliError> {
    if args.all_tags {
        return Err(CliError::usage("cannot pull all tags: --all-tags is not supported; name each tag"));
    }
    args.platform.check()?;
    let options = PullOptions {
        registry: args.registry.options(args.creds.as_deref())?,
        concurrency: args.jobs.max(1),
        ..PullOptions::default()
    };
    for image in &args.images {
        output::line(host.pull(image, options.clone(), args.quiet).await?)?;
    }
    Ok(0)
}
