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

use mimeo_engine::snapshot::Manifest;
use mimeo_engine::{Engine, Found};
use mimeo_image::Image;

use crate::backend::{Host, local};
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
pub(crate) async fn run(host: &Host, verb: Verb) -> Result<i32, CliError> {
    match verb {
        Verb::Pull(args) => pull::run(host, args).await,
        Verb::Ls(args) => ls::run(host, &args).await,
        Verb::Exists(args) => exists::run(host, &args).await,
        Verb::Inspect(args) => inspect::run(host, &args).await,
        Verb::Rm(args) => rm::run(host, &args).await,
        Verb::History(args) => history::run(local(host, "show the history of an image")?, &args),
        Verb::Tag(args) => tag::run(local(host, "tag an image")?, &args),
        Verb::Untag(args) => untag::run(local(host, "untag an image")?, &args),
        Verb::Save(args) => save::run(local(host, "save images")?, args).await,
        Verb::Load(args) => load::run(local(host, "load images")?, args).await,
        Verb::Push(args) => push::run(local(host, "push an image")?, args).await,
        Verb::Search(args) => search::run(args).await,
        Verb::Tree(args) => tree::run(local(host, "show the layers of an image")?, &args),
        Verb::Diff(args) => diff::run(local(host, "compare images")?, &args).await,
        Verb::Import(args) => import::run(local(host, "import an image")?, args).await,
        Verb::Prune(args) => prune::run(local(host, "prune images")?, &args),
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
        let snapshots = engine.snapshots().list()?.into_iter().map(|snapshot| snapshot.manifest);
        Ok(Self::from_records(engine.registry().list()?, snapshots.collect()))
    }

    /// Those of these machines and snapshots.
    pub(crate) fn from_records(machines: Vec<Found>, snapshots: Vec<Manifest>) -> Self {
        let machines = machines.into_iter().filter_map(|found| {
            let name = format!("machine {}", found.record.name);
            Some((found.record.image?.id, name))
        });
        let snapshots = snapshots.into_iter().filter_map(|snapshot| {
            let name = format!("snapshot {}", snapshot.display_name());
            Some((snapshot.machine?.image?.id, name))
        });
        Self(machines.chain(snapshots).collect())
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
