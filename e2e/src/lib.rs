//! The harness of the tests on real virtual machines.
//!
//! A [`World`] is the home, run directory and user of one test. Dropping it fails
//! the test if a process, machine or socket of that test still exists.
//! A missing prerequisite fails the test with the package to install.

#![allow(clippy::missing_panics_doc, reason = "a test harness reports failures by panicking")]

mod base;
mod clock;
mod full_disk;
mod guest_program;
mod image;
mod lan;
mod leftovers;
mod manager;
mod outcome;
mod poller;
mod postgres;
mod prepared;
mod proxy;
mod qemu;
mod registry;
mod snapshots;
mod terminal;
mod wait;
mod web_socket;
mod world;

pub use base::Base;
pub use clock::Clock;
pub use full_disk::{Filler, SmallDisk};
pub use guest_program::guest_program;
pub use image::{Image, Layer, sha256};
pub use lan::{Lan, ip};
pub use leftovers::is_alive;
pub use manager::{Answer, Client, Database, Manager};
pub use outcome::Outcome;
pub use poller::Poller;
pub use postgres::Postgres;
pub use proxy::StallingProxy;
pub use qemu::installed_qemu;
pub use registry::{LOGIN, Registry};
pub use snapshots::{RetryDelay, Server, failure_record, flip_byte, stencil_failure_file};
pub use terminal::Terminal;
pub use wait::{signal, until};
pub use web_socket::{Handshake, Socket};
pub use world::{User, World, built_program, target};

/// Runs one test body as root and as an ordinary user.
#[macro_export]
macro_rules! as_root_and_user {
    ($name:ident, $body:expr) => {
        $crate::as_root_and_user!($name, new, $body);
    };
    ($name:ident, $world:ident, $body:expr) => {
        mod $name {
            use super::*;

            #[test]
            fn as_root() {
                let body: fn(&$crate::World) = $body;
                body(&$crate::World::$world($crate::User::Root));
            }

            #[test]
            fn as_user() {
                let body: fn(&$crate::World) = $body;
                body(&$crate::World::$world($crate::User::Ordinary));
            }
        }
    };
}

/// Runs one test body with the manager's records in SQLite and in PostgreSQL.
#[macro_export]
macro_rules! on_both_databases {
    ($name:ident, $world:ident, $body:expr) => {
        mod $name {
            use super::*;

            #[test]
            fn on_sqlite() {
                let body: fn(&$crate::World, &$crate::Database) = $body;
                body(&$crate::World::$world($crate::User::Ordinary), &$crate::Database::Sqlite);
            }

            #[test]
            fn on_postgres() {
                let body: fn(&$crate::World, &$crate::Database) = $body;
                let database = $crate::Database::Postgres($crate::Postgres::start());
                body(&$crate::World::$world($crate::User::Ordinary), &database);
            }
        }
    };
}
