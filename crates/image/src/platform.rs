//! Operating system and CPU architecture of an image.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `os/architecture`, with Go's names as in OCI documents: `linux/amd64`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Such as `linux`.
    pub os: String,
    /// Such as `amd64` or `arm64`.
    pub architecture: String,
}

/// A text does not have the form `os/architecture`.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a platform such as linux/amd64")]
pub struct PlatformError {
    text: String,
}

impl Platform {
    /// The platform of guests on this host: Linux on the host's architecture.
    pub fn host() -> Self {
        Self { os: "linux".into(), architecture: go_architecture(std::env::consts::ARCH).into() }
    }
}

fn go_architecture(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        match text.split('/').collect::<Vec<_>>()[..] {
            [os, architecture] | [os, architecture, _] if !os.is_empty() && !architecture.is_empty() => {
                Ok(Self { os: os.into(), architecture: go_architecture(architecture).into() })
            }
            _ => Err(PlatformError { text: text.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_with_and_without_variant() {
        assert_eq!("linux/arm64/v8".parse::<Platform>().unwrap().to_string(), "linux/arm64");
        assert_eq!("linux/x86_64".parse::<Platform>().unwrap().to_string(), "linux/amd64");
        assert!("amd64".parse::<Platform>().is_err());
    }
}
