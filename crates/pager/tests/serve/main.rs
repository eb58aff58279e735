//! A page server, and real processes that play Firecracker's part and whose memory it serves.
#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

mod messages;
mod server;
mod vmm;
mod work;

mod content;
mod ends;
mod handshake;
mod huge;
mod removed;
