//! Which requests use files of the manager's host.

use mimeo_image::Source;
use mimeo_manager_api::{CreateMachine, Volume};

/// Returns the field with which a request uses files of the manager's host. Only administrators may do so.
#[must_use]
pub fn needs_host_access(wire: &CreateMachine) -> Option<&'static str> {
    if wire.image.as_deref().is_some_and(is_local) {
        return Some("image");
    }
    if wire.volumes.iter().any(|volume| matches!(volume, Volume::Bind { .. })) {
        return Some("volumes");
    }
    let auth_file = wire.registry.as_ref().and_then(|registry| registry.auth_file.as_ref());
    auth_file.map(|_| "registry.auth_file")
}

/// Whether an image is a file or a directory. A text that cannot be parsed is none.
fn is_local(image: &str) -> bool {
    match image.parse() {
        Ok(Source::Registry(_)) | Err(_) => false,
        Ok(Source::OciDir { .. } | Source::OciArchive { .. } | Source::DockerArchive { .. }) => true,
    }
}
