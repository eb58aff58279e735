//! The HTTP side of the manager: who may do what, in which form.

pub(crate) mod authenticate;
pub(crate) mod body;
mod connection;
pub(crate) mod etag;
mod guard;
mod hosts;
pub(crate) mod idempotency;
mod json;
pub(crate) mod listen;
mod openapi;
pub(crate) mod page;
mod policy;
mod problem;
pub(crate) mod query;
mod record_access;
mod request_id;
mod rights;
pub(crate) mod router;
mod timed_body;
pub(crate) mod tls;
pub(crate) mod wait;
pub(crate) mod web_socket;

pub(crate) use json::Json;
pub(crate) use openapi::document;
pub(crate) use policy::Policy;
pub(crate) use rights::Rights;
pub(crate) use router::{Document, Routes};

// What every handler uses.
pub(crate) use crate::api_error::{ApiError, Result};
pub(crate) use crate::caller::Caller;
