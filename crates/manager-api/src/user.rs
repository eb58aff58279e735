//! Users and their tokens.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, with everybody's resources.
    Admin,
    /// Everything with resources of their own.
    User,
    /// Read items, lists, metrics and events of all resources; no logs, files or consoles.
    Viewer,
}

impl Role {
    /// Returns its name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::User => "user",
            Self::Viewer => "viewer",
        }
    }
}

/// What a token may be used for, within the role of its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Read items, lists, metrics and events.
    Read,
    /// Create, change and remove machines, snapshots, images and volumes.
    Write,
    /// Run commands, read logs and files, attach to consoles.
    Exec,
    /// Manage users and tokens.
    Admin,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// The user's id.
    pub id: String,
    /// The user's name.
    pub name: String,
    /// What the user may do.
    pub role: Role,
    /// Whether the user's tokens are refused.
    pub disabled: bool,
    /// When the user was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A request for a new user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    /// The user's name.
    pub name: String,
    /// What the user may do.
    pub role: Role,
}

/// A change of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PatchUser {
    /// A new role.
    pub role: Option<Role>,
    /// Whether the user's tokens are refused.
    pub disabled: Option<bool>,
}

/// A token. Its secret is shown only when it is created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Its id.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// The name of the user whose token it is.
    pub user: String,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// The only machine that it may be used for, if there is one.
    pub machine: Option<String>,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it expires.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
}

/// A request for a new token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CreateToken {
    /// What it is for.
    pub name: String,
    /// The user whose token it is; by default the caller. Only an admin may name another.
    pub user: Option<String>,
    /// What it may be used for; by default everything that the user may do.
    pub scopes: Option<Vec<Scope>>,
    /// Seconds until it expires; by default never.
    pub ttl_seconds: Option<u64>,
}

/// A new token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// The token.
    pub item: Token,
    /// Its secret, for `Authorization: Bearer`. It is shown only now.
    pub secret: String,
}

/// Who the caller is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    /// The user's name.
    pub user: String,
    /// The user's role.
    pub role: Role,
    /// What the token may be used for.
    pub scopes: Vec<Scope>,
    /// The token's id; null on the manager's Unix socket.
    pub token: Option<String>,
}
