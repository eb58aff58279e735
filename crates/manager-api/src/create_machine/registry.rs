//! How an image's registry is accessed.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How an image's registry is accessed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Registry {
    /// Registries, as `host[:port]`, that are accessed over plain HTTP.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub insecure: Vec<String>,
    /// Require HTTPS and verify certificates. False: accept any certificate, and plain HTTP. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_verify: Option<bool>,
    /// The login, for this pull only. Default: that of the manager's login files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<RegistryAuth>,
    /// A login file of the manager's host, for administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_file: Option<String>,
}

/// A login at a registry.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryAuth {
    /// The user.
    #[schema(min_length = 1)]
    pub username: String,
    /// The password or token. It is never stored or returned.
    #[schema(format = Password, write_only)]
    pub password: String,
}

/// Without the password.
impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryAuth").field("username", &self.username).finish_non_exhaustive()
    }
}
