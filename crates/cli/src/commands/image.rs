//! `mimeo image`: images, which machines are created from.

pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod ls;
pub(crate) mod prune;
pub(crate) mod pull;
pub(crate) mod rm;

use mimeo_engine::Engine;
use mimeo_image::Image;

use crate::error::CliError;

/// Commands for images.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Pull images
    Pull(pull::Args),
    /// List images
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    /// Show details of images
    Inspect(inspect::Args),
    /// Remove images
    Rm(rm::Args),
    /// Import a root filesystem from a tar file as an image
    Import(import::Args),
    /// Remove images without a name, and files that no image needs
    Prune(prune::Args),
}

/// Runs the command.
pub(crate) async fn run(engine: &Engine, verb: Verb) -> Result<i32, CliError> {
    match verb {
        Verb::Pull(args) => pull::run(engine, args).await,
        Verb::Ls(args) => ls::run(engine, &args),
        Verb::Inspect(args) => inspect::run(engine, &args),
        Verb::Rm(args) => rm::run(engine, &args),
        Verb::Import(args) => import::run(engine, args).await,
        Verb::Prune(args) => prune::run(engine, &args),
    }
}

/// Pairs of an image id and the machine or snapshot that uses the image.
struct ImageUsers(Vec<(String, String)>);

impl ImageUsers {
    fn load(engine: &Engine) -> Result<Self, CliError> {
        let machines = engine.registry().list()?.into_iter();
        let machines = machines.filter_map(|found| {
            let name = format!("machine {}", found.record.name);
            Some((found.record.image?.id, name))
        });
        let snapshots = engine.snapshots().list()?.into_iter();
        let snapshots = snapshots.filter_map(|snapshot| {
            let name = format!("snapshot {}", snapshot.manifest.display_name());
            Some((snapshot.manifest.machine?.image?.id, name))
        });
        Ok(Self(machines.chain(snapshots).collect()))
    }

    /// Lists the users of the image for an error message; `None` if there are none.
    fn describe(&self, image: &Image) -> Option<String> {
        let id = image.id.to_string();
        let names: Vec<_> =
            self.0.iter().filter(|(used, _)| *used == id).map(|(_, name)| name.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    fn count(&self, image: &Image) -> usize {
        let id = image.id.to_string();
        self.0.iter().filter(|(used, _)| *used == id).count()
    }
}
