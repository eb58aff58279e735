//! Searches a registry for repositories, as podman does: by the search of version 1 of the API, which Docker Hub has, and
//! otherwise in the catalog of version 2.

use serde::Deserialize;

use crate::name::{self, DOCKER_HUB};
use crate::registry::RegistryOptions;
use crate::web::{Page, Web, WebError};

/// podman's limit on results where none is given.
pub(crate) const DEFAULT_LIMIT: usize = 25;
/// The host of Docker Hub's search.
const DOCKER_SEARCH: &str = "index.docker.io";
/// Pages of a catalog that are read. Registries send 100 or 1000 names at a time.
const MAX_PAGES: usize = 1000;

/// A repository that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchResult {
    /// The registry.
    pub index: String,
    /// Its full name, with the registry.
    pub name: String,
    /// What its owner says of it.
    pub description: String,
    /// Its number of stars.
    pub stars: u64,
    /// Docker maintains it.
    pub is_official: bool,
    /// Docker Hub builds it.
    pub is_automated: bool,
}

/// Why a search failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot search registry {registry:?}")]
pub struct SearchError {
    registry: String,
    source: WebError,
}

/// Searches for repositories whose names contain the term, `[HOST[:PORT]/]TEXT`. Without a registry it is Docker Hub's.
/// `limit` is the largest number of results; 0 stands for 25.
///
/// # Errors
/// If the registry cannot be reached, or has no search.
pub async fn search(
    term: &str,
    limit: usize,
    options: &RegistryOptions,
) -> Result<Vec<SearchResult>, SearchError> {
    let (registry, text) = split_term(term);
    let limit = if limit == 0 { DEFAULT_LIMIT } else { limit };
    let found = search_registry(&registry, text, limit, options).await;
    let entries = found.map_err(|source| SearchError { registry: registry.clone(), source })?;
    Ok(entries.into_iter().take(limit).map(|entry| entry.into_result(&registry)).collect())
}

/// The registry of a search term, and the text to search for.
fn split_term(term: &str) -> (String, &str) {
    match term.split_once('/') {
        Some((host, text)) if name::looks_like_host(host) => (name::canonical_registry(host), text),
        _ => (DOCKER_HUB.to_owned(), term),
    }
}

/// A result of the search of version 1.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    name: String,
    description: Option<String>,
    star_count: u64,
    is_official: bool,
    is_automated: bool,
}

#[derive(Deserialize)]
struct Results {
    results: Vec<Entry>,
}

#[derive(Deserialize)]
struct Catalog {
    repositories: Option<Vec<String>>,
}

async fn search_registry(
    registry: &str,
    text: &str,
    limit: usize,
    options: &RegistryOptions,
) -> Result<Vec<Entry>, WebError> {
    let is_docker_hub = registry == DOCKER_HUB;
    let web = Web::new(registry, if is_docker_hub { DOCKER_SEARCH } else { registry }, options)?;
    if !text.is_empty() {
        match web.get::<Results>(&search_path(text, limit)).await {
            Ok(Page { content, .. }) => return Ok(content.results),
            // Docker Hub has no catalog.
            Err(error) if is_docker_hub || matches!(error, WebError::Unreachable(_)) => return Err(error),
            Err(error) => tracing::debug!(component = "search", registry, %error, "no search of version 1"),
        }
    }
    search_catalog(&web, text, limit).await
}

fn search_path(text: &str, limit: usize) -> String {
    let text =
        reqwest::Url::parse_with_params("http://x/v1/search", [("q", text), ("n", &limit.to_string())]);
    text.map(|url| format!("{}?{}", url.path(), url.query().unwrap_or_default())).unwrap_or_default()
}

/// The repositories whose names contain the text; the one of that name is the first.
async fn search_catalog(web: &Web, text: &str, limit: usize) -> Result<Vec<Entry>, WebError> {
    let mut found = Vec::new();
    let mut path = Some("/v2/_catalog".to_owned());
    for _ in 0..MAX_PAGES {
        let Some(this) = path.filter(|_| found.len() < limit) else { break };
        let Page { content, next } = web.get::<Catalog>(&this).await?;
        let names = content.repositories.unwrap_or_default().into_iter();
        for name in names.filter(|name| name.contains(text)) {
            let at = if name == text { 0 } else { found.len() };
            found.insert(at, Entry { name, ..Entry::default() });
        }
        path = next;
    }
    Ok(found)
}

impl Entry {
    fn into_result(self, registry: &str) -> SearchResult {
        let is_short = registry == DOCKER_HUB && !self.name.contains('/');
        let folder = if is_short { "library/" } else { "" };
        SearchResult {
            index: registry.to_owned(),
            name: format!("{registry}/{folder}{}", self.name),
            description: self.description.unwrap_or_default(),
            stars: self.star_count,
            is_official: self.is_official,
            is_automated: self.is_automated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_before_the_slash_is_a_registry_only_if_it_can_be_one() {
        let split = |term| split_term(term);
        assert_eq!(split("quay.io/team/app"), ("quay.io".to_owned(), "team/app"));
        assert_eq!(split("localhost:5000/"), ("localhost:5000".to_owned(), ""));
        assert_eq!(split("index.docker.io/x"), ("docker.io".to_owned(), "x"));
        assert_eq!(split("team/app"), ("docker.io".to_owned(), "team/app"));
        assert_eq!(split("alpine"), ("docker.io".to_owned(), "alpine"));
    }

    #[test]
    fn names_of_docker_hub_are_completed() {
        let named = |name: &str, registry: &str| {
            Entry { name: name.to_owned(), ..Entry::default() }.into_result(registry).name
        };
        assert_eq!(named("alpine", "docker.io"), "docker.io/library/alpine");
        assert_eq!(named("team/app", "docker.io"), "docker.io/team/app");
        assert_eq!(named("alpine", "quay.io"), "quay.io/alpine");
        assert_eq!(search_path("a b&c", 3), "/v1/search?q=a+b%26c&n=3");
    }
}
