//! The protocol between the host and a guest's agent.
//!
//! It has two parts. Each is a frozen edge (see COMPATIBILITY.md):
//!
//! * [`link`]: many streams over one byte channel. The channel may be a
//!   virtio-serial port, which has no connections. So a session begins with a
//!   preamble that cannot be mistaken for a frame, and every frame carries the
//!   number of its session.
//! * [`message`]: the host's requests to an agent, and the agent's replies.
//!
//! mimeo's command line talks to a machine's supervisor over the same link,
//! with the engine's own messages.

mod call;
pub mod capability;
pub mod frame;
pub mod link;
pub mod message;

pub use call::CallError;
pub use capability::Capabilities;

/// Version of the messages. A host and an agent with different versions refuse the session.
pub const PROTOCOL: u32 = 1;
