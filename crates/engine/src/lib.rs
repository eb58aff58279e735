//! The engine creates, supervises, lists and stops mimeo's machines.
//!
//! It is a library; the command line is its client. [`supervise`] runs the process
//! that owns one machine, [`ControlClient`] sends that process requests, and [`Registry`] reads the
//! machines' records on disk.

mod accelerator;
pub mod act;
pub mod admission;
mod agent;
mod background;
pub mod boot_snapshot;
pub mod cause;
mod clone;
pub mod control;
pub mod create;
mod disk_layers;
pub mod driver;
mod durable;
mod engine;
mod events;
mod exclusive;
mod failures;
mod fork_decision;
pub mod garbage;
mod guest;
mod hang;
pub mod health;
mod home;
mod id;
mod identity;
mod ignored;
mod io_error;
pub mod launch_request;
mod launch_spec;
pub mod log;
pub mod machine;
pub mod network;
mod open_files;
mod own_program;
mod reserved;
pub mod signal;
pub mod snapshot;
pub mod snapshot_server;
mod stage;
mod stencil;
mod supervisor;
mod supervisor_process;
mod sweep;
pub mod time_zone;
mod usage;
pub mod volumes;
mod working_set;

pub use agent::BYTES as AGENT;
pub use control::ControlClient;
pub use engine::Engine;
pub use events::{Event, Events, Follower};
pub use hang::HangDump;
pub use home::{Home, HomeError};
pub use id::{Id, IdKind, MachineId, ParseIdError, SnapshotId};
pub use io_error::IoError;
pub use machine::{Exit, FindError, Found, MachineName, MachineSpec, Record, Registry, Selector, State};
pub use open_files::{raise_open_files, restore_open_files};
pub use own_program::own_program;
pub use stage::pull_failure_kind;
pub use supervisor::{Attachment, OutputFailure, SupervisorError, supervise, supervise_clone};
pub use supervisor_process::{Cloned, SpawnError, StartProgress};
pub use sweep::{Swept, sweep, sweep_machine};
pub use usage::{HostUsage, ProcessUsage};
