//! The envelopes of answers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Operation;

/// One resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Item<T> {
    /// The resource.
    pub item: T,
}

/// A page of resources.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Items<T> {
    /// The resources of this page.
    pub items: Vec<T>,
    /// The `cursor` of the next page; null on the last page.
    pub next_cursor: Option<String>,
}

/// A resource, and the operation that changes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Accepted<T> {
    /// The resource as it is now.
    pub item: T,
    /// The operation.
    pub operation: Operation,
}
