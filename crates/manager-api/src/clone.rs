//! Clones of a snapshot or of a running machine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Port;

/// Clones to start. Clones of a running machine (a fork) all start, or none does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StartClones {
    /// The clones, each with what it does not take over from its source.
    #[schema(min_items = 1, max_items = 1000)]
    pub clones: Vec<CloneRequest>,
    /// Of a fork: a repeated request with the same key answers with the same clones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// What a clone does not take over from its source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CloneRequest {
    /// Its name. Default: a random one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its published ports. Default: its source's, on free ports of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<Port>>,
    /// Environment variables, in addition to its source's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Its labels. Default: its source's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Remove the machine when it has exited.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub remove: bool,
}
