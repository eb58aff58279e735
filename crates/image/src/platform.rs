//! Operating system and CPU architecture of an image.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `os/architecture`, with Go's names as in OCI documents: `linux/amd64`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// Such as `linux`. In a document that does not say it, empty.
    pub os: String,
    /// Such as `amd64` or `arm64`. In a document that does not say it, empty.
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
        Self { os: "linux".into(), architecture: go_architecture(std::env::consts::ARCH) }
    }

    /// Whether an image that declares this platform runs on `requested`. Images that do not say theirs run, as in
    /// podman, and `x86_64` means `amd64`.
    pub(crate) fn matches(&self, requested: &Self) -> bool {
        let same = |declared: &str, requested: &str| declared.is_empty() || declared == requested;
        same(&self.os.to_lowercase(), &requested.os)
            && same(&go_architecture(&self.architecture), &requested.architecture)
    }
}

/// Go's name of an architecture, which documents should use, for the names that they and users also use.
fn go_architecture(name: &str) -> String {
    let lower = name.to_lowercase();
    match lower.as_str() {
        "x86_64" | "x86-64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        "i386" | "x86" => "386".to_owned(),
        "armhf" | "armel" => "arm".to_owned(),
        _ => lower,
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
                Ok(Self { os: os.into(), architecture: go_architecture(architecture) })
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

    #[test]
    fn images_that_do_not_say_their_platform_match() {
        let declared =
            |os: &str, architecture: &str| Platform { os: os.into(), architecture: architecture.into() };
        let requested = declared("linux", "amd64");
        for (os, architecture) in [("", ""), ("linux", ""), ("Linux", "x86_64"), ("linux", "AMD64")] {
            assert!(declared(os, architecture).matches(&requested), "{os}/{architecture}");
        }
        for (os, architecture) in [("windows", "amd64"), ("linux", "arm64"), ("", "aarch64")] {
            assert!(!declared(os, architecture).matches(&requested), "{os}/{architecture}");
        }
    }
}
