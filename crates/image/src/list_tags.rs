//! Lists the tags of a repository in a registry.

use serde::Deserialize;

use crate::name::DOCKER_HUB;
use crate::name::{ImageName, NameError};
use crate::registry::{DOCKER_HUB_HOST, RegistryOptions};
use crate::search::DEFAULT_LIMIT;
use crate::web::{Page, Web, WebError};

/// Why the tags could not be listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListTagsError {
    /// The text is not the name of a repository.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The registry did not send the tags.
    #[error("cannot list the tags of {name}")]
    Registry {
        /// The repository.
        name: String,
        /// Why.
        source: WebError,
    },
}

/// The tags of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tags {
    /// Its full name, with the registry.
    pub name: String,
    /// In the registry's order.
    pub tags: Vec<String>,
}

#[derive(Deserialize)]
struct Document {
    tags: Option<Vec<String>>,
}

/// Lists the tags of a repository, `[HOST[:PORT]/]NAME`. `limit` is the largest number; 0 stands for 25.
///
/// # Errors
/// If the registry cannot be reached, or does not have the repository.
pub async fn list_tags(text: &str, limit: usize, options: &RegistryOptions) -> Result<Tags, ListTagsError> {
    let image: ImageName = text.parse()?;
    let (registry, repository) = (image.registry(), image.repository());
    let name = format!("{registry}/{repository}");
    let limit = if limit == 0 { DEFAULT_LIMIT } else { limit };
    match read_all(registry, repository, limit, options).await {
        Ok(tags) => Ok(Tags { name, tags }),
        Err(source) => Err(ListTagsError::Registry { name, source }),
    }
}

async fn read_all(
    registry: &str,
    repository: &str,
    limit: usize,
    options: &RegistryOptions,
) -> Result<Vec<String>, WebError> {
    let host = if registry == DOCKER_HUB { DOCKER_HUB_HOST } else { registry };
    let web = Web::new(registry, host, options)?;
    let mut tags = Vec::new();
    let mut path = Some(format!("/v2/{repository}/tags/list"));
    while let Some(this) = path.filter(|_| tags.len() < limit) {
        let Page { content, next } = web.get::<Document>(&this).await?;
        let more = content.tags.unwrap_or_default();
        // A registry that sends empty pages without an end is left.
        path = next.filter(|_| !more.is_empty());
        tags.extend(more);
    }
    tags.truncate(limit);
    Ok(tags)
}
