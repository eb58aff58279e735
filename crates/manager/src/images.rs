//! Images of the store, as the API shows them, and who uses them.

use mimeo_engine::Engine;
use mimeo_engine::cause::chain;
use mimeo_image::{Image as Stored, Store};
use mimeo_manager_api::{Image, Resource, ResourceKind};

use crate::App;
use crate::api_error::{ApiError, Result};
use crate::caller::{Caller, LOCAL};
use crate::database::resource;

/// The machines and snapshots that use images, each with its name, and with the image's id.
#[derive(Debug, Clone)]
pub(crate) struct ImageUsers(Vec<(String, Resource, String)>);

impl ImageUsers {
    /// Reads them. An error means that an image may be in use.
    pub(crate) fn load(
        engine: &Engine,
    ) -> std::result::Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let machines = engine.registry().list()?.into_iter().filter_map(|found| {
            let (id, name) = (found.record.id.to_string(), format!("machine {}", found.record.name));
            Some((found.record.image?.id, resource(ResourceKind::Machine, id), name))
        });
        let snapshots = engine.snapshots().list()?.into_iter().filter_map(|snapshot| {
            let manifest = snapshot.manifest;
            let name = format!("snapshot {}", manifest.display_name());
            Some((manifest.machine?.image?.id, resource(ResourceKind::Snapshot, manifest.id.as_str()), name))
        });
        Ok(Self(machines.chain(snapshots).collect()))
    }

    fn users_of<'a>(
        &'a self,
        image: &Stored,
    ) -> impl Iterator<Item = &'a (String, Resource, String)> + use<'a> {
        let id = image.id.to_string();
        self.0.iter().filter(move |(used, ..)| *used == id)
    }

    /// The users of an image, for an error message; `None` if there are none.
    pub(crate) fn describe(&self, image: &Stored) -> Option<String> {
        let names: Vec<_> = self.users_of(image).map(|(.., name)| name.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }
}

/// Runs work on the store on a thread that may block.
pub(crate) async fn with_store<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&Store, &ImageUsers) -> Result<T> + Send + 'static,
) -> Result<T> {
    let engine = app.engine().clone();
    let done = tokio::task::spawn_blocking(move || {
        let failed = |detail: String| ApiError::new(500, "store-failed", detail);
        let store = engine.images().map_err(|error| failed(chain(&error)))?;
        let users = ImageUsers::load(&engine).map_err(|error| failed(chain(&*error)))?;
        work(&store, &users)
    });
    match done.await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The item of an image.
pub(crate) async fn item(app: &App, caller: Option<&Caller>, image: &Stored) -> Result<Image> {
    Ok(items(app, caller, vec![image.clone()]).await?.remove(0))
}

/// The items of images. `used_by` has what the caller may see.
pub(crate) async fn items(app: &App, caller: Option<&Caller>, images: Vec<Stored>) -> Result<Vec<Image>> {
    let machines = app.database().machine_owners().await?;
    let snapshots = app.database().all_snapshots().await?;
    let snapshots: std::collections::HashMap<String, String> =
        snapshots.into_iter().map(|snapshot| (snapshot.id, snapshot.owner)).collect();
    let users = with_store(app, |_, users| Ok(users.clone())).await?;
    let is_visible = |user: &Resource| {
        let owners = if user.kind == ResourceKind::Machine { &machines } else { &snapshots };
        let owner = owners.get(&user.id).map_or(LOCAL, String::as_str);
        caller.is_some_and(|caller| caller.sees(owner))
    };
    let item = |image: Stored| {
        let used_by = users.users_of(&image).map(|(_, user, _)| user.clone()).filter(is_visible).collect();
        describe(&image, users.users_of(&image).next().is_some(), used_by)
    };
    Ok(images.into_iter().map(item).collect())
}

fn describe(image: &Stored, in_use: bool, used_by: Vec<Resource>) -> Image {
    Image {
        id: image.id.to_string(),
        names: image.names.clone(),
        digest: image.digest.to_string(),
        platform: format!("{}/{}", image.os, image.architecture),
        size_bytes: image.size,
        layers: u32::try_from(image.layers.len()).unwrap_or(u32::MAX),
        created_at: image.created,
        in_use,
        used_by,
    }
}
