//! Where an image is pushed to, as users write it.

use std::path::PathBuf;
use std::str::FromStr;

use crate::name::ImageName;
use crate::source::{Source, SourceError};

/// The destination of a push.
///
/// | text | meaning |
/// |---|---|
/// | `docker://quay.io/a/b:1`, `quay.io/a/b:1` | a registry |
/// | `oci:DIR[:TAG]` | an OCI layout directory |
/// | `oci-archive:FILE[:TAG]` | an OCI layout in a tar file |
/// | `docker-archive:FILE[:NAME]` | an archive as by `docker save` |
/// | `dir:DIR` | a directory with the blobs and a manifest of docker's schema 2 |
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A registry.
    Registry(ImageName),
    /// An OCI layout directory.
    OciDir {
        /// The directory.
        path: PathBuf,
        /// The image's `org.opencontainers.image.ref.name`.
        tag: Option<String>,
    },
    /// An OCI layout in a tar file.
    OciArchive {
        /// The file.
        path: PathBuf,
        /// The image's `org.opencontainers.image.ref.name`.
        tag: Option<String>,
    },
    /// An archive as by `docker save`.
    DockerArchive {
        /// The file.
        path: PathBuf,
        /// The image's name in it.
        name: Option<ImageName>,
    },
    /// A directory with a manifest of docker's schema 2.
    Dir {
        /// The directory.
        path: PathBuf,
    },
}

impl FromStr for Destination {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        if let Some(path) = text.strip_prefix("dir:") {
            let missing = || SourceError::MissingPath { text: text.to_owned() };
            return (!path.is_empty()).then(|| Self::Dir { path: path.into() }).ok_or_else(missing);
        }
        Ok(match text.parse()? {
            Source::Registry(name) => Self::Registry(name),
            Source::OciDir { path, tag } => Self::OciDir { path, tag },
            Source::OciArchive { path, tag } => Self::OciArchive { path, tag },
            Source::DockerArchive { path, name } => Self::DockerArchive { path, name },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_distinguished() {
        let parse = |text: &str| text.parse::<Destination>();
        assert!(matches!(parse("docker://quay.io/a/b:1").unwrap(), Destination::Registry(_)));
        assert_eq!(parse("dir:/x").unwrap(), Destination::Dir { path: "/x".into() });
        assert_eq!(
            parse("oci:new:v1").unwrap(),
            Destination::OciDir { path: "new".into(), tag: Some("v1".into()) }
        );
        for text in ["dir:", "oci:", "docker://", "docker-archive:x:BAD NAME"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
