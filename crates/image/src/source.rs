//! Image sources, as users write them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::name::{ImageName, NameError};

/// The source of an image.
///
/// | text | meaning |
/// |---|---|
/// | `nginx`, `quay.io/a/b:1`, `x@sha256:…`, `docker://…` | a registry |
/// | `oci:DIR[:TAG]` | an OCI layout directory |
/// | `oci-archive:FILE[:TAG]` | an OCI layout in a tar file |
/// | `docker-archive:FILE[:NAME]` | an archive by `docker save` |
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A registry.
    Registry(ImageName),
    /// An OCI layout directory; the tag is its `org.opencontainers.image.ref.name`.
    OciDir {
        /// The directory.
        path: PathBuf,
        /// Selects one of several images.
        tag: Option<String>,
    },
    /// An OCI layout in a tar file.
    OciArchive {
        /// The file.
        path: PathBuf,
        /// Selects one of several images.
        tag: Option<String>,
    },
    /// An archive by `docker save` or `podman save`.
    DockerArchive {
        /// The file.
        path: PathBuf,
        /// Selects one of several images.
        name: Option<ImageName>,
    },
}

/// Why a text is not a source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The path after `oci:`, `oci-archive:` or `docker-archive:` is missing.
    #[error("{text:?} has no path")]
    MissingPath {
        /// The given text.
        text: String,
    },
    /// The image name is invalid.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        if let Some(rest) = text.strip_prefix("oci:") {
            let (path, tag) = split_path(text, rest)?;
            return Ok(Self::OciDir { path, tag });
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            let (path, tag) = split_path(text, rest)?;
            return Ok(Self::OciArchive { path, tag });
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            let (path, name) = split_path(text, rest)?;
            return Ok(Self::DockerArchive { path, name: name.map(|n| n.parse()).transpose()? });
        }
        Ok(Self::Registry(text.strip_prefix("docker://").unwrap_or(text).parse()?))
    }
}

/// Splits path and tag. A path that exists is not split, because file names may contain colons.
fn split_path(text: &str, rest: &str) -> Result<(PathBuf, Option<String>), SourceError> {
    let whole = (PathBuf::from(rest), None);
    let (path, tag) = match rest.split_once(':') {
        Some((path, tag)) if !tag.is_empty() && !Path::new(rest).exists() => {
            (path.into(), Some(tag.to_owned()))
        }
        _ => whole,
    };
    if path.as_os_str().is_empty() {
        return Err(SourceError::MissingPath { text: text.to_owned() });
    }
    Ok((path, tag))
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(name) => write!(f, "{name}"),
            Self::OciDir { path, tag } => write_local(f, "oci", path, tag.as_ref()),
            Self::OciArchive { path, tag } => write_local(f, "oci-archive", path, tag.as_ref()),
            Self::DockerArchive { path, name } => write_local(f, "docker-archive", path, name.as_ref()),
        }
    }
}

fn write_local<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    kind: &str,
    path: &Path,
    tag: Option<T>,
) -> fmt::Result {
    write!(f, "{kind}:{}", path.display())?;
    tag.map_or(Ok(()), |tag| write!(f, ":{tag}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_distinguished() {
        assert!(matches!("nginx".parse().unwrap(), Source::Registry(_)));
        assert!(matches!("docker://nginx".parse().unwrap(), Source::Registry(_)));
        assert_eq!(
            "oci:dir:tag".parse::<Source>().unwrap(),
            Source::OciDir { path: "dir".into(), tag: Some("tag".into()) }
        );
        assert_eq!(
            "oci-archive:/a/b.tar".parse::<Source>().unwrap(),
            Source::OciArchive { path: "/a/b.tar".into(), tag: None }
        );
        let text = "docker-archive:x.tar:nginx:1";
        let Source::DockerArchive { name, .. } = text.parse().unwrap() else { panic!("{text}") };
        assert_eq!(name.unwrap().to_string(), "docker.io/library/nginx:1");
    }

    #[test]
    fn a_missing_path_is_refused() {
        for text in ["oci:", "oci-archive:", "docker-archive::x"] {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
    }
}
