//! `--rmi`: removes the image of a machine that has been removed.

use mimeo_engine::Engine;
use mimeo_engine::machine::ImageSummary;

use crate::commands::image::ImageUsers;
use crate::error::CliError;

/// Removes the image unless something else uses it. The machine has exited: a failure is only logged.
pub(crate) fn remove_image(engine: &Engine, image: &ImageSummary) {
    if let Err(error) = try_remove(engine, image) {
        tracing::warn!(component = "images", image = %image.name, "cannot remove the image: {error}");
    }
}

fn try_remove(engine: &Engine, image: &ImageSummary) -> Result<(), CliError> {
    let store = engine.images()?;
    let users = ImageUsers::load(engine)?;
    let Some(found) = store.find(&image.id)? else { return Ok(()) };
    if let Some(users) = users.describe(&found) {
        tracing::info!(component = "images", image = %image.name, users, "the image stays: it is in use");
        return Ok(());
    }
    store.remove(&image.id, true, &|image| users.describe(image)).map(drop)?;
    Ok(())
}
