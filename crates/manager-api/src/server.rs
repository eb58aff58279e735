//! The manager itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the manager is, and what it can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct About {
    /// The program's name.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// The API's version.
    pub api: String,
    /// What was added to this version of the API, in the order in which it was added.
    pub extensions: Vec<String>,
}

/// Whether the manager works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthReport {
    /// `ok` or `unavailable`.
    pub status: String,
    /// `ok`, or why the database cannot be used.
    pub database: String,
}
