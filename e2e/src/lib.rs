//! The harness of the tests on real virtual machines.
//!
//! A [`World`] is one test's own home, run directory and user. When it goes,
//! nothing that was started in it may live: no process, no machine, no socket.
//! A missing prerequisite fails loudly and says what to install.

#![allow(clippy::missing_panics_doc, reason = "panicking is how a harness reports")]

mod guest_program;
mod image;
mod kept;
mod lan;
mod leftovers;
mod outcome;
mod poller;
mod prepared;
mod qemu;
mod registry;
mod tap;
mod wait;
mod world;

pub use guest_program::guest_program;
pub use image::{Image, Layer, sha256};
pub use kept::{Pause, Served, failed_stencil, failure, flip};
pub use lan::{Lan, ip};
pub use outcome::Outcome;
pub use poller::Poller;
pub use qemu::installed_qemu;
pub use registry::Registry;
pub use tap::Tap;
pub use wait::{signal, until};
pub use world::{User, World, beside};

/// Runs one body as root and as an ordinary user.
#[macro_export]
macro_rules! as_root_and_user {
    ($name:ident, $body:expr) => {
        mod $name {
            use super::*;

            #[test]
            fn as_root() {
                let body: fn(&$crate::World) = $body;
                body(&$crate::World::new($crate::User::Root));
            }

            #[test]
            fn as_user() {
                let body: fn(&$crate::World) = $body;
                body(&$crate::World::new($crate::User::Ordinary));
            }
        }
    };
}
