//! Tests of the manager: real machines over HTTP.

mod chaos;
mod database;
mod events;
mod machines;
mod openapi;
mod recovery;
mod schemathesis;
mod security;
mod systemd;
mod tls;
mod users;
