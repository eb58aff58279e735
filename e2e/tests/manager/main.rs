//! Tests of the manager: real machines over HTTP.

mod chaos;
mod clock;
mod command_line;
mod database;
mod events;
mod figures;
mod files;
mod forks;
mod full_disk;
mod guide;
mod images;
mod logs;
mod machines;
mod openapi;
mod pools;
mod quotas;
mod recovery;
mod runtime_snapshots;
mod schemathesis;
mod security;
mod snapshots;
mod streams;
mod systemd;
mod tls;
mod upgrade;
mod users;
