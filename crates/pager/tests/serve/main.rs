//! A page server and real processes whose memory it serves; they play Firecracker's part.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod said;
mod server;
mod vmm;
mod work;

mod content;
mod ends;
mod handshake;
mod huge;
mod removed;
