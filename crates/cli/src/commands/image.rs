//! `mimeo image`: images, which machines are created from.

mod archive;
pub(crate) mod diff;
pub(crate) mod exists;
pub(crate) mod history;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod load;
pub(crate) mod ls;
pub(crate) mod platform;
pub(crate) mod prune;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod registry;
pub(crate) mod rm;
pub(crate) mod save;
pub(crate) mod search;
pub(crate) mod tag;
pub(crate) mod tree;
pub(crate) mod untag;

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
    /// Test whether an image exists: the exit code is 0 or 1
    Exists(exists::Args),
    /// Show details of images
    Inspect(inspect::Args),
    /// Remove images
    Rm(rm::Args),
    /// Show the steps that built an image
    History(history::Args),
    /// Give an image further names
    Tag(tag::Args),
    /// Take names from an image
    Untag(untag::Args),
    /// Write images to an archive or a directory
    Save(save::Args),
    /// Load images from an archive
    Load(load::Args),
    /// Push an image to a registry
    Push(push::Args),
    /// Search a registry for images
    Search(search::Args),
    /// Show the layers of an image as a tree
    Tree(tree::Args),
    /// List what an image's topmost layer has changed, or how two images differ
    Diff(diff::Args),
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
        Verb::Exists(args) => exists::run(engine, &args),
        Verb::Inspect(args) => inspect::run(engine, &args),
        Verb::Rm(args) => rm::run(engine, &args),
        Verb::History(args) => history::run(engine, &args),
        Verb::Tag(args) => tag::run(engine, &args),
        Verb::Untag(args) => untag::run(engine, &args),
        Verb::Save(args) => save::run(engine, args).await,
        Verb::Load(args) => load::run(engine, args).await,
        Verb::Push(args) => push::run(engine, args).await,
        Verb::Search(args) => search::run(args).await,
        Verb::Tree(args) => tree::run(engine, &args),
        Verb::Diff(args) => diff::run(engine, &args).await,
        Verb::Import(args) => import::run(engine, args).await,
        Verb::Prune(args) => prune::run(engine, &args),
    }
}

/// podman's error for an image that does not exist.
pub(crate) fn unknown(text: &str) -> CliError {
    CliError::usage(format!("{text}: image not known"))
}

/// Pairs of an image id and the machine or snapshot that uses the image.
pub(crate) struct ImageUsers(Vec<(String, String)>);

impl ImageUsers {
    pub(crate) fn load(engine: &Engine) -> Result<Self, CliError> {
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
    pub(crate) fn describe(&self, image: &Image) -> Option<String> {
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
