//! The run configuration of an image.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::history::HistoryEntry;

/// The run configuration of an image. Serialised with these field names; absent values are omitted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// Program and first arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Default arguments, replaced by those of the command line; without an entrypoint, program and arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// `NAME=value`, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Working directory; empty means `/`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub workdir: String,
    /// `user`, `uid`, `user:group` or `uid:gid`; empty means root.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Ports such as `80/tcp`, sorted as text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exposed_ports: Vec<String>,
    /// Paths whose data outlives the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// Labels set by the image's author.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Such as `SIGQUIT` or `3`; none means SIGTERM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// The health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
}

/// A health check. Times are in nanoseconds, as in OCI documents; 0 means the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", program, …]` or `["CMD-SHELL", text]`.
    pub test: Vec<String>,
    /// Time between two checks.
    pub interval_ns: u64,
    /// Timeout of one check.
    pub timeout_ns: u64,
    /// Time after the start in which failures do not count.
    pub start_period_ns: u64,
    /// Consecutive failures that make the container unhealthy.
    pub retries: u32,
}

/// The used part of an OCI image configuration document.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ConfigDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<String>,
    /// Empty if the image does not say it, as some tools write it.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) architecture: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) config: Option<ConfigObject>,
    pub(crate) rootfs: Rootfs,
    #[serde(default, deserialize_with = "null_is_no_history", skip_serializing_if = "Vec::is_empty")]
    pub(crate) history: Vec<HistoryEntry>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
}

fn null_is_no_history<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<HistoryEntry>, D::Error> {
    Ok(Option::<Vec<HistoryEntry>>::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Rootfs {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) diff_ids: Vec<Digest>,
}

/// The `config` object. Go writes its empty members as null.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ConfigObject {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    volumes: Option<BTreeMap<String, serde_json::Value>>,
    labels: Option<BTreeMap<String, String>>,
    stop_signal: Option<String>,
    healthcheck: Option<HealthcheckObject>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HealthcheckObject {
    test: Option<Vec<String>>,
    interval: u64,
    timeout: u64,
    start_period: u64,
    retries: u32,
}

impl From<ConfigObject> for ImageConfig {
    fn from(run: ConfigObject) -> Self {
        Self {
            entrypoint: run.entrypoint.unwrap_or_default(),
            cmd: run.cmd.unwrap_or_default(),
            env: run.env.unwrap_or_default(),
            workdir: run.working_dir.unwrap_or_default(),
            user: run.user.unwrap_or_default(),
            exposed_ports: keys(run.exposed_ports),
            volumes: keys(run.volumes),
            labels: run.labels.unwrap_or_default(),
            stop_signal: run.stop_signal.filter(|signal| !signal.is_empty()),
            healthcheck: run.healthcheck.map(Healthcheck::from),
        }
    }
}

fn keys(map: Option<BTreeMap<String, serde_json::Value>>) -> Vec<String> {
    map.unwrap_or_default().into_keys().collect()
}

impl From<HealthcheckObject> for Healthcheck {
    fn from(check: HealthcheckObject) -> Self {
        Self {
            test: check.test.unwrap_or_default(),
            interval_ns: check.interval,
            timeout_ns: check.timeout,
            start_period_ns: check.start_period,
            retries: check.retries,
        }
    }
}

impl From<ImageConfig> for ConfigObject {
    fn from(config: ImageConfig) -> Self {
        let set = |list: Vec<String>| (!list.is_empty()).then(|| empty_objects(list));
        let text = |text: String| (!text.is_empty()).then_some(text);
        let list = |list: Vec<String>| (!list.is_empty()).then_some(list);
        Self {
            entrypoint: list(config.entrypoint),
            cmd: list(config.cmd),
            env: list(config.env),
            working_dir: text(config.workdir),
            user: text(config.user),
            exposed_ports: set(config.exposed_ports),
            volumes: set(config.volumes),
            labels: Some(config.labels),
            stop_signal: config.stop_signal,
            healthcheck: config.healthcheck.map(HealthcheckObject::from),
        }
    }
}

fn empty_objects(keys: Vec<String>) -> BTreeMap<String, serde_json::Value> {
    keys.into_iter().map(|key| (key, serde_json::json!({}))).collect()
}

impl From<Healthcheck> for HealthcheckObject {
    fn from(check: Healthcheck) -> Self {
        Self {
            test: Some(check.test),
            interval: check.interval_ns,
            timeout: check.timeout_ns,
            start_period: check.start_period_ns,
            retries: check.retries,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_nulls_are_empty() {
        let text = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},
            "config":{"Cmd":["sh"],"Entrypoint":null,"Env":null,"ExposedPorts":{"80/tcp":{}},"Labels":null,
            "Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":5000000000}}}"#;
        let document: ConfigDocument = serde_json::from_str(text).unwrap();
        let config = ImageConfig::from(document.config.unwrap());
        assert_eq!(config.cmd, ["sh"]);
        assert_eq!(config.exposed_ports, ["80/tcp"]);
        assert_eq!(config.healthcheck.as_ref().unwrap().interval_ns, 5_000_000_000);
        assert_eq!(ImageConfig::from(ConfigObject::from(config.clone())), config);
    }
}
