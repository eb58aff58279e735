//! Imports a tar file of a root directory as an image with one layer.

use std::io::Read;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use crate::blobs;
use crate::build::{self, BuildError};
use crate::commit::FileError;
use crate::config::{ConfigDocument, ConfigObject, ImageConfig, Rootfs};
use crate::digest::Digest;
use crate::history::HistoryEntry;
use crate::image::{Image, LayerInfo};
use crate::layer::{self, Budget, LayerError};
use crate::limits::Limits;
use crate::manifest::{CONFIG, Descriptor, Manifest};
use crate::name::ImageName;
use crate::platform::Platform;
use crate::progress::Progress;
use crate::pull;
use crate::store::Store;

/// Options of an import.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// The image's name; none for an image that is identified by its id only.
    pub name: Option<ImageName>,
    /// Changes to the run configuration.
    pub changes: Vec<Change>,
    /// The image's platform. The host's by default.
    pub platform: Platform,
    /// Limits on its size and number of entries.
    pub limits: Limits,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self { name: None, changes: Vec::new(), platform: Platform::host(), limits: Limits::default() }
    }
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The tar file is refused.
    #[error("the tar file is not an image")]
    Layer(#[from] LayerError),
    /// The filesystem could not be built.
    #[error("cannot build a filesystem from the tar file")]
    Build(#[from] BuildError),
    /// A document could not be encoded.
    #[error("cannot encode the image's documents")]
    Encode(#[from] serde_json::Error),
    /// The tar file or a file of the store cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Imports a tar file, uncompressed or compressed with gzip or zstd. `origin` names it in errors. Blocks.
    ///
    /// # Errors
    /// When it cannot be read, or is refused like an invalid layer.
    pub fn import(
        &self,
        tar: impl Read,
        origin: &Path,
        options: &ImportOptions,
        progress: Arc<dyn Progress>,
    ) -> Result<Image, ImportError> {
        let _adding = self.lock_shared()?;
        let (digest, size) = blobs::copy(self, tar, origin, None)?;
        let diff_id = layer::diff_id(&self.blob(digest), digest, &Budget::new(options.limits.clone()))?;
        let layers = vec![LayerInfo { digest, diff_id, size }];
        let key = build::build(self, &layers, &options.limits, &progress)?;
        let document = document(options, diff_id, origin);
        let (id, manifest) = self.put_documents(&document, &layers[0])?;
        let names: Vec<String> = options.name.iter().map(ImageName::to_string).collect();
        Ok(pull::write_records(self, id, manifest, document, layers, key, &names)?)
    }

    fn put_documents(
        &self,
        document: &ConfigDocument,
        layer: &LayerInfo,
    ) -> Result<(Digest, Digest), ImportError> {
        let bytes = serde_json::to_vec(document)?;
        let id = blobs::put(self, &bytes)?;
        let config = Descriptor::new(CONFIG, id, bytes.len() as u64);
        let blob = self.blob(layer.digest);
        let media_type = layer::media_type(&blob).map_err(FileError::at("read", &blob))?;
        let manifest = Manifest::new(config, vec![Descriptor::new(&media_type, layer.digest, layer.size)]);
        Ok((id, blobs::put(self, &serde_json::to_vec(&manifest)?)?))
    }
}

fn document(options: &ImportOptions, diff_id: Digest, origin: &Path) -> ConfigDocument {
    let mut config = ImageConfig::default();
    for change in &options.changes {
        change.apply(&mut config);
    }
    let created = jiff::Timestamp::now().to_string();
    ConfigDocument {
        created: Some(created.clone()),
        architecture: options.platform.architecture.clone(),
        os: options.platform.os.clone(),
        config: Some(ConfigObject::from(config)),
        rootfs: Rootfs { kind: "layers".to_owned(), diff_ids: vec![diff_id] },
        history: vec![HistoryEntry {
            created: Some(created),
            comment: Some(format!("imported from {}", origin.display())),
            ..HistoryEntry::default()
        }],
    }
}

/// A change to the run configuration, as in a Dockerfile: `CMD ["sh"]`, `ENV A=1`, or podman's `CMD=sh`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// `CMD`
    Cmd(Vec<String>),
    /// `ENTRYPOINT`
    Entrypoint(Vec<String>),
    /// `ENV`, as `NAME=value`
    Env(String),
    /// `WORKDIR`
    Workdir(String),
    /// `USER`
    User(String),
    /// `EXPOSE`, as `80/tcp`
    Expose(String),
    /// `VOLUME`
    Volume(String),
    /// `LABEL`
    Label(String, String),
    /// `STOPSIGNAL`
    StopSignal(String),
}

/// Why a text is not a change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The instruction is unknown.
    #[error(
        "{text:?} is not a change: expected CMD, ENTRYPOINT, ENV, WORKDIR, USER, EXPOSE, VOLUME, LABEL or STOPSIGNAL"
    )]
    Unknown {
        /// The given text.
        text: String,
    },
    /// The instruction's value is invalid.
    #[error("{text:?} is not a change: expected {expected}")]
    Form {
        /// The given text.
        text: String,
        /// The expected form of the value.
        expected: &'static str,
    },
}

impl FromStr for Change {
    type Err = ChangeError;

    fn from_str(text: &str) -> Result<Self, ChangeError> {
        let form = |expected| ChangeError::Form { text: text.to_owned(), expected };
        let unknown = || ChangeError::Unknown { text: text.to_owned() };
        let (word, value) = text.trim().split_once([' ', '=', '\t']).ok_or_else(unknown)?;
        let value = value.trim();
        Ok(match word.to_ascii_uppercase().as_str() {
            "CMD" => Self::Cmd(parse_command(value)),
            "ENTRYPOINT" => Self::Entrypoint(parse_command(value)),
            "ENV" => Self::Env(
                parse_pair(value).map(|(k, v)| format!("{k}={v}")).ok_or_else(|| form("NAME=value"))?,
            ),
            "WORKDIR" => Self::Workdir(value.to_owned()),
            "USER" => Self::User(value.to_owned()),
            "EXPOSE" => Self::Expose(parse_port(value).ok_or_else(|| form("a port such as 80 or 53/udp"))?),
            "VOLUME" => Self::Volume(value.to_owned()),
            "LABEL" => parse_pair(value).map(|(k, v)| Self::Label(k, v)).ok_or_else(|| form("name=value"))?,
            "STOPSIGNAL" => Self::StopSignal(value.to_owned()),
            _ => return Err(unknown()),
        })
    }
}

impl Change {
    /// Applies the instruction to a run configuration.
    pub fn apply(&self, config: &mut ImageConfig) {
        match self {
            Self::Cmd(words) => config.cmd = words.clone(),
            Self::Entrypoint(words) => config.entrypoint = words.clone(),
            Self::Env(pair) => set_env(&mut config.env, pair),
            Self::Workdir(path) => config.workdir = path.clone(),
            Self::User(user) => config.user = user.clone(),
            Self::Expose(port) => config.exposed_ports.push(port.clone()),
            Self::Volume(path) => config.volumes.push(path.clone()),
            Self::Label(name, value) => drop(config.labels.insert(name.clone(), value.clone())),
            Self::StopSignal(signal) => config.stop_signal = Some(signal.clone()),
        }
    }
}

fn set_env(env: &mut Vec<String>, pair: &str) {
    let name = pair.split('=').next().unwrap_or_default();
    env.retain(|other| other.split('=').next() != Some(name));
    env.push(pair.to_owned());
}

/// Parses a JSON list of arguments; any other text is a command line for the image's shell, as in a Dockerfile.
fn parse_command(value: &str) -> Vec<String> {
    let list = serde_json::from_str::<Vec<String>>(value).ok();
    list.unwrap_or_else(|| ["/bin/sh", "-c", value].map(str::to_owned).to_vec())
}

/// Parses `NAME=value`, or the older `NAME value`, and removes quotes around the value.
fn parse_pair(value: &str) -> Option<(String, String)> {
    let (name, value) = value.split_once(['=', ' ']).filter(|(name, _)| !name.is_empty())?;
    let bare = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
    Some((name.to_owned(), bare.to_owned()))
}

fn parse_port(value: &str) -> Option<String> {
    let (number, protocol) = value.split_once('/').unwrap_or((value, "tcp"));
    let valid = number.parse::<u16>().is_ok_and(|n| n > 0) && matches!(protocol, "tcp" | "udp" | "sctp");
    valid.then(|| format!("{number}/{protocol}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(text: &str) -> Change {
        text.parse().unwrap()
    }

    #[test]
    fn dockerfile_and_podman_forms_are_parsed() {
        assert_eq!(change(r#"CMD ["sh", "-l"]"#), Change::Cmd(vec!["sh".into(), "-l".into()]));
        assert_eq!(change("CMD=echo hi"), Change::Cmd(vec!["/bin/sh".into(), "-c".into(), "echo hi".into()]));
        assert_eq!(change("env A=b c"), Change::Env("A=b c".into()));
        assert_eq!(change("ENV A b"), Change::Env("A=b".into()));
        assert_eq!(change("LABEL who=\"me too\""), Change::Label("who".into(), "me too".into()));
        assert_eq!(change("EXPOSE 80"), Change::Expose("80/tcp".into()));
        assert_eq!(change("EXPOSE 53/udp"), Change::Expose("53/udp".into()));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "CMD", "RUN x", "ENV =x", "EXPOSE 0", "EXPOSE 80/x", "LABEL x"] {
            assert!(text.parse::<Change>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_later_value_of_a_variable_wins() {
        let mut config = ImageConfig::default();
        for text in ["ENV A=1", "ENV B=2", "ENV A=3"] {
            change(text).apply(&mut config);
        }
        assert_eq!(config.env, ["B=2", "A=3"]);
    }
}
