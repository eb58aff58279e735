//! Tests of the manager: real machines over HTTP.

mod chaos;
mod database;
mod events;
mod files;
mod forks;
mod images;
mod logs;
mod machines;
mod openapi;
mod pools;
mod recovery;
mod runtime_snapshots;
mod security;
mod snapshots;
mod streams;
mod systemd;
mod tls;
mod users;
