//! Image names: `nginx` means `docker.io/library/nginx:latest`, as in podman and docker.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::digest::{Digest, DigestError};

/// The registry of names without one.
pub(crate) const DOCKER_HUB: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
/// The distribution specification's limits.
const MAX_REPOSITORY: usize = 255;
const MAX_TAG: usize = 128;

/// A full name: registry, repository, and a tag, a digest, or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageName {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A repository of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repository {
    pub(crate) registry: String,
    pub(crate) path: String,
}

impl From<&ImageName> for Repository {
    fn from(name: &ImageName) -> Self {
        Self { registry: name.registry.clone(), path: name.repository.clone() }
    }
}

/// Why a text is not an image name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The text is empty.
    #[error("an image name is missing")]
    Empty,
    /// The repository part has characters that registries do not accept.
    #[error(
        "{name:?} is not an image name: {part:?} must be of lower-case letters, digits, '.', '_', '-' and '/'"
    )]
    Repository {
        /// The given name.
        name: String,
        /// The invalid part.
        part: String,
    },
    /// The tag has characters that registries do not accept, or is too long.
    #[error("{name:?} is not an image name: {tag:?} is not a tag")]
    Tag {
        /// The given name.
        name: String,
        /// The invalid tag.
        tag: String,
    },
    /// The part after `@` is not a digest.
    #[error("{name:?} is not an image name")]
    Digest {
        /// The given name.
        name: String,
        /// Why.
        source: DigestError,
    },
}

impl ImageName {
    /// Builds a name for a local image: `localhost/<repository>:<tag>`.
    ///
    /// # Errors
    /// When registries would not accept the parts.
    pub fn local(repository: &str, tag: &str) -> Result<Self, NameError> {
        format!("localhost/{repository}:{tag}").parse()
    }

    /// Parses a name that a user gives to a local image: without a registry it is one of `localhost`, as in podman.
    ///
    /// # Errors
    /// When the text is not a name.
    pub fn new_local(text: &str) -> Result<Self, NameError> {
        let has_registry = text.split_once('/').is_some_and(|(first, _)| looks_like_host(first));
        if has_registry || text.is_empty() { text.parse() } else { format!("localhost/{text}").parse() }
    }

    /// Host and optional port, such as `docker.io` or `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path within the registry, such as `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; none if the name has only a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The manifest's digest, if the name pins one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Whether the registry is on this host, where plain HTTP is used.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.registry)
    }

    /// The name without its registry, for comparison with short names.
    pub(crate) fn path_and_version(&self) -> String {
        format!("{}{}", self.repository, Version(self))
    }
}

/// Whether a registry, `host[:port]`, is on this host.
pub(crate) fn is_loopback(registry: &str) -> bool {
    let host = host_of(registry);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn host_of(registry: &str) -> &str {
    if let Some(rest) = registry.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    registry.split(':').next().unwrap_or(registry)
}

struct Version<'a>(&'a ImageName);

impl fmt::Display for Version<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tag) = &self.0.tag {
            write!(f, ":{tag}")?;
        }
        match self.0.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.repository, Version(self))
    }
}

impl FromStr for ImageName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        let (rest, digest) = split_digest(text)?;
        let (path, tag) = split_tag(rest);
        let (registry, repository) = split_registry(path);
        check_registry(text, &registry)?;
        check_repository(text, &repository)?;
        let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| DEFAULT_TAG.to_owned()));
        check_tag(text, tag.as_deref())?;
        Ok(Self { registry, repository, tag, digest })
    }
}

fn split_digest(text: &str) -> Result<(&str, Option<Digest>), NameError> {
    let Some((rest, digest)) = text.split_once('@') else { return Ok((text, None)) };
    let digest = digest.parse().map_err(|source| NameError::Digest { name: text.to_owned(), source })?;
    Ok((rest, Some(digest)))
}

/// Splits off the tag. A colon before the last slash belongs to the registry's port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (text, None),
    }
}

/// Splits off the registry. The first part is a registry only if it cannot be a user's name.
fn split_registry(path: &str) -> (String, String) {
    match path.split_once('/') {
        Some((first, rest)) if looks_like_host(first) => (canonical_registry(first), official(first, rest)),
        _ => (DOCKER_HUB.to_owned(), official(DOCKER_HUB, path)),
    }
}

pub(crate) fn looks_like_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':'])
}

pub(crate) fn canonical_registry(host: &str) -> String {
    match host {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB.to_owned(),
        other => other.to_owned(),
    }
}

fn official(registry: &str, path: &str) -> String {
    if canonical_registry(registry) == DOCKER_HUB && !path.contains('/') && !path.is_empty() {
        return format!("library/{path}");
    }
    path.to_owned()
}

fn check_registry(name: &str, registry: &str) -> Result<(), NameError> {
    let first = |b: u8| b.is_ascii_alphanumeric() || b == b'[';
    let valid = registry.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b))
        && registry.bytes().next().is_some_and(first);
    if valid { Ok(()) } else { Err(NameError::Repository { name: name.into(), part: registry.into() }) }
}

fn check_repository(name: &str, repository: &str) -> Result<(), NameError> {
    let valid = repository.len() <= MAX_REPOSITORY && repository.split('/').all(valid_component);
    if valid { Ok(()) } else { Err(NameError::Repository { name: name.into(), part: repository.into() }) }
}

fn valid_component(part: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let inner = |b: u8| plain(b) || b"._-".contains(&b);
    part.bytes().all(inner)
        && part.bytes().next().is_some_and(plain)
        && part.bytes().last().is_some_and(plain)
}

fn check_tag(name: &str, tag: Option<&str>) -> Result<(), NameError> {
    let Some(tag) = tag else { return Ok(()) };
    let body = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let first = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let valid = tag.len() <= MAX_TAG && tag.bytes().all(body) && tag.bytes().next().is_some_and(first);
    if valid { Ok(()) } else { Err(NameError::Tag { name: name.into(), tag: tag.into() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(text: &str) -> String {
        text.parse::<ImageName>().unwrap().to_string()
    }

    #[test]
    fn short_names_are_completed() {
        assert_eq!(full("nginx"), "docker.io/library/nginx:latest");
        assert_eq!(full("nginx:1.25"), "docker.io/library/nginx:1.25");
        assert_eq!(full("bitnami/redis"), "docker.io/bitnami/redis:latest");
        assert_eq!(full("docker.io/nginx"), "docker.io/library/nginx:latest");
        assert_eq!(full("index.docker.io/library/nginx"), "docker.io/library/nginx:latest");
        assert_eq!(full("localhost/x"), "localhost/x:latest");
        assert_eq!(full("localhost:5000/x:tag"), "localhost:5000/x:tag");
        assert_eq!(full("quay.io/a/b/c:v1"), "quay.io/a/b/c:v1");
    }

    #[test]
    fn a_digest_needs_no_tag() {
        let digest = Digest::compute(b"x");
        assert_eq!(full(&format!("nginx@{digest}")), format!("docker.io/library/nginx@{digest}"));
        assert_eq!(full(&format!("nginx:1@{digest}")), format!("docker.io/library/nginx:1@{digest}"));
    }

    #[test]
    fn bad_names_are_refused() {
        for text in ["", "Nginx", "a//b", "a:", "nginx@sha256:12", "a b", "../x", "x:ta g", "-x", "quay.io/"]
        {
            assert!(text.parse::<ImageName>().is_err(), "{text}");
        }
    }

    #[test]
    fn loopback_is_recognised() {
        for text in ["localhost/x", "localhost:5000/x", "127.0.0.1:5000/x", "127.9.9.9/x", "[::1]:5000/x"] {
            assert!(text.parse::<ImageName>().unwrap().is_loopback(), "{text}");
        }
        for text in ["nginx", "localhost.example.com/x", "10.0.0.1:5000/x"] {
            assert!(!text.parse::<ImageName>().unwrap().is_loopback(), "{text}");
        }
    }
}
