//! Resolves a name or id that a user types to an image in the store.

use crate::commit::FileError;
use crate::digest::Digest;
use crate::image::Image;
use crate::name::ImageName;
use crate::records::{self, Records};
use crate::store::Store;

/// Shorter texts are not matched against ids.
const MIN_ID_LENGTH: usize = 2;

/// Why a text does not identify an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// The text matches several images.
    #[error("{text:?} matches several images: {}", .candidates.join(", "))]
    Ambiguous {
        /// The given text.
        text: String,
        /// Their names or ids.
        candidates: Vec<String>,
    },
    /// The records cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Finds an image by name, short name, id or unique prefix of an id. None if there is no such image.
    ///
    /// A short name means, in this order: `localhost/NAME`, `docker.io/library/NAME`, the only stored name that
    /// ends in `/NAME`.
    ///
    /// # Errors
    /// When several images match, or the records cannot be read.
    pub fn find(&self, text: &str) -> Result<Option<Image>, FindError> {
        let records = records::load(self)?;
        Ok(find_id(&records, text)?.and_then(|found| records.image(self, found.id)))
    }
}

impl Store {
    /// As [`Store::find`], with the stored name that the text means, if it is a name.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn find_named(&self, text: &str) -> Result<Option<(Image, Option<String>)>, FindError> {
        let records = records::load(self)?;
        let Some(found) = find_id(&records, text)? else { return Ok(None) };
        Ok(records.image(self, found.id).map(|image| (image, found.name)))
    }
}

/// The image that a text identifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) id: Digest,
    /// The stored name, if the image was found by name.
    pub(crate) name: Option<String>,
}

pub(crate) fn find_id(records: &Records, text: &str) -> Result<Option<Found>, FindError> {
    match by_name(records, text)? {
        Some(found) => Ok(Some(found)),
        None => by_id(records, text),
    }
}

fn by_name(records: &Records, text: &str) -> Result<Option<Found>, FindError> {
    let Ok(name) = text.parse::<ImageName>() else { return Ok(None) };
    let full = name.to_string();
    let local = format!("localhost/{text}").parse::<ImageName>().map(|name| name.to_string());
    let by_text = [local.ok(), Some(full)];
    if let Some(found) = by_text.into_iter().flatten().find_map(|name| by_exact_name(records, &name)) {
        return Ok(Some(found));
    }
    match by_digest(records, &name) {
        Some(found) => Ok(Some(found)),
        None => by_ending(records, text, &name),
    }
}

fn by_exact_name(records: &Records, name: &str) -> Option<Found> {
    records.names.get(name).map(|id| Found { id: *id, name: Some(name.to_owned()) })
}

/// `nginx@sha256:…` matches any image with that manifest that has a name in that repository.
fn by_digest(records: &Records, name: &ImageName) -> Option<Found> {
    let digest = name.digest()?;
    let stem = format!("{}/{}", name.registry(), name.repository());
    let row = records.rows.values().find(|row| {
        let names = records.names_of(row.id);
        row.digest == digest && names.iter().any(|n| n.starts_with(&stem))
    })?;
    Some(Found { id: row.id, name: None })
}

fn by_ending(records: &Records, text: &str, name: &ImageName) -> Result<Option<Found>, FindError> {
    let full_path = name.path_and_version();
    let short =
        full_path.strip_prefix("library/").filter(|_| !text.starts_with("library/")).unwrap_or(&full_path);
    let ending = format!("/{short}");
    let mut found: Vec<(&String, &Digest)> =
        records.names.iter().filter(|(name, _)| name.ends_with(&ending)).collect();
    let names = found.iter().map(|(name, _)| (*name).clone()).collect();
    found.dedup_by_key(|(_, id)| **id);
    match found[..] {
        [] => Ok(None),
        _ if text.starts_with(name.registry()) => Ok(None),
        [(name, id)] => Ok(Some(Found { id: *id, name: Some(name.clone()) })),
        _ => Err(FindError::Ambiguous { text: text.to_owned(), candidates: names }),
    }
}

fn by_id(records: &Records, text: &str) -> Result<Option<Found>, FindError> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    if hex.len() < MIN_ID_LENGTH || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let found: Vec<Digest> = records.rows.keys().copied().filter(|id| id.hex().starts_with(hex)).collect();
    match found[..] {
        [] => Ok(None),
        [id] => Ok(Some(Found { id, name: None })),
        _ => {
            let candidates = found.iter().map(|id| id.hex()[..16].to_owned()).collect();
            Err(FindError::Ambiguous { text: text.to_owned(), candidates })
        }
    }
}
