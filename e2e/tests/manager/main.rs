//! Tests of the manager: real machines over HTTP.

mod chaos;
mod command_line;
mod database;
mod events;
mod figures;
mod files;
mod guide;
mod logs;
mod machines;
mod openapi;
mod recovery;
mod schemathesis;
mod security;
mod streams;
mod systemd;
mod tls;
mod users;
