//! Events: what happened, and who requested it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Resource;

/// An event. The events form a chain: each has the digest of the one before it, so that an edit shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its number: one more than that of the event before it.
    pub seq: i64,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// What happened, such as `machine.running` or `operation.failed`.
    pub kind: String,
    /// Who caused it: a user's name, or `manager`.
    pub actor: String,
    /// The owner of the resource.
    pub owner: String,
    /// The resource.
    pub resource: Resource,
    /// Details.
    #[schema(value_type = Object)]
    pub data: serde_json::Value,
    /// SHA-256 of the event before it and of this event, in hexadecimal digits.
    pub digest: String,
}

/// Whether the events form a whole chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventChain {
    /// Whether no event was changed, added or removed.
    pub is_whole: bool,
    /// The number of the first event that does not follow from the one before it.
    pub first_broken: Option<i64>,
    /// The number of the last event.
    pub last: i64,
}

/// A page of events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventList {
    /// The events, in order.
    pub items: Vec<Event>,
    /// The `after` of the next page; null if there are no more events yet.
    pub next_cursor: Option<String>,
}
