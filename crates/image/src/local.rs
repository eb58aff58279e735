//! Images in local files: OCI layouts, and archives by `docker save`.

mod directory;
mod docker;
mod files;
mod layout;

pub(crate) use directory::VERSION;
pub(crate) use docker::MANIFEST as DOCKER_MANIFEST;
pub(crate) use layout::{INDEX, TAG};

use std::path::{Path, PathBuf};

use files::Files;

use crate::commit::FileError;
use crate::digest::Digest;
use crate::layer::LayerProblem;
use crate::limits::Limits;
use crate::manifest::{DocumentError, Manifest};
use crate::name::ImageName;
use crate::platform::Platform;
use crate::source::Source;
use crate::store::Store;

/// Why a file or folder cannot be loaded as an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A required member is missing.
    #[error("it has no {member}")]
    Missing {
        /// The path within.
        member: String,
    },
    /// A member cannot be parsed as a document of its kind.
    #[error("its {member} cannot be read")]
    Unreadable {
        /// The path within.
        member: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A member's path leads out of the archive.
    #[error("the path of its member {member:?} leads out of the archive")]
    Outside {
        /// The path within.
        member: String,
    },
    /// A member has another digest than expected.
    #[error("its member {member} does not match its digest: the content has {actual}")]
    WrongDigest {
        /// The path within.
        member: String,
        /// As computed.
        actual: Digest,
    },
    /// A document in it is refused.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// There are several images, and none was selected.
    #[error("it contains several images: choose one of {}", .tags.join(", "))]
    Several {
        /// The available tags.
        tags: Vec<String>,
    },
    /// There is no image with the requested tag.
    #[error("it contains no image {tag:?}, only {}", .tags.join(", "))]
    NoSuchTag {
        /// The requested tag.
        tag: String,
        /// The available tags.
        tags: Vec<String>,
    },
    /// The archive's compression is unknown or broken, or it unpacks to more than the limits allow.
    #[error("it cannot be unpacked")]
    Unpack(#[source] Box<LayerProblem>),
    /// A document exceeds the size limit.
    #[error("its {member} of {bytes} bytes is too large")]
    TooLarge {
        /// The path within.
        member: String,
        /// Its size.
        bytes: u64,
    },
}

/// An image whose content has been copied into the store.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) manifest: Manifest,
    pub(crate) digest: Digest,
    pub(crate) config: Vec<u8>,
    pub(crate) names: Vec<String>,
}

/// Copies an image's content into the store. Blocks.
pub(crate) fn load(
    store: &Store,
    source: &Source,
    platform: &Platform,
    limits: &Limits,
) -> Result<Loaded, LocalError> {
    match source {
        Source::OciDir { path, tag } => {
            layout::load(store, &Files::folder(path), path, tag.as_deref(), platform)
        }
        Source::OciArchive { path, tag } => {
            layout::load(store, &Files::archive(store, path, limits)?, path, tag.as_deref(), platform)
        }
        Source::DockerArchive { path, name } => {
            docker::load(store, &Files::archive(store, path, limits)?, path, name)
        }
        Source::Registry(name) => Err(LocalError::Missing { member: name.to_string() }),
    }
}

/// Copies all images of an archive or a folder into the store. Its members tell its kind. `origin` names it in errors.
/// Blocks.
pub(crate) fn load_all(
    store: &Store,
    path: &Path,
    origin: &Path,
    platform: &Platform,
    limits: &Limits,
) -> Result<Vec<Loaded>, LocalError> {
    let files = match path.is_dir() {
        true => Files::folder(path),
        false => Files::open_archive(store, path, origin, limits)?,
    };
    if files.has(directory::VERSION) && files.has(docker::MANIFEST) {
        return Ok(vec![directory::load(store, &files)?]);
    }
    match (files.has(docker::MANIFEST), files.has(layout::INDEX)) {
        // Docker writes both into one archive; its own has all names.
        (true, _) => docker::load_all(store, &files),
        (_, true) => layout::load_all(store, &files, platform),
        _ => Err(LocalError::Missing { member: format!("{} and no {}", docker::MANIFEST, layout::INDEX) }),
    }
}

/// A name for an unnamed image: `localhost/<file name>:<tag>`.
fn name_from_path(path: &Path, tag: Option<&str>) -> Vec<String> {
    let stem = stem(path).to_lowercase();
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '-' };
    let repository: String = stem.chars().map(plain).collect();
    let repository = repository.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let tag = tag.unwrap_or("latest");
    ImageName::local(repository, tag).map(|name| name.to_string()).into_iter().collect()
}

fn stem(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let endings = [".gz", ".tar", ".tgz", ".oci"];
    endings.iter().fold(name, |name, ending| name.strip_suffix(ending).map(str::to_owned).unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unnamed_images_are_named_after_their_file() {
        assert_eq!(name_from_path(Path::new("/x/My App.tar.gz"), None), ["localhost/my-app:latest"]);
        assert_eq!(name_from_path(Path::new("/x/layout"), Some("v1")), ["localhost/layout:v1"]);
        assert!(name_from_path(Path::new("/x/layout"), Some("not a tag")).is_empty());
    }
}
