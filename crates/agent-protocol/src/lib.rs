//! What the host and a guest's agent say to each other, and how it travels.
//!
//! Two parts, each a frozen edge (see COMPATIBILITY.md):
//!
//! * [`link`]: many streams over one byte channel. The channel may be a
//!   virtio-serial port, which knows no connections, so a session begins with
//!   a preamble that cannot be mistaken for a frame, and every frame carries
//!   the number of the generation that it belongs to.
//! * [`message`]: the requests that a host makes of an agent, and the answers.
//!
//! The same link also joins mimeo's command line to a machine's monitor, with
//! the engine's own messages on it.

mod call;
pub mod frame;
pub mod link;
pub mod message;

pub use call::CallError;

/// Version of the messages. A host and an agent with different numbers do not talk.
pub const PROTOCOL: u32 = 1;
