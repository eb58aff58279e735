//! The manager: machines, their containers and snapshots over HTTP.
//!
//! It is a client of the engine: whatever it does, the command line can do too. What is requested is recorded in a
//! database before it is done. What runs is never decided from that database: supervisors are asked.

mod api_document;
mod api_error;
mod app;
mod audit;
mod caller;
pub mod convert;
mod database;
mod exec_process;
mod expire;
mod file_lock;
mod find_machine;
mod follow;
mod guest;
mod home_lock;
mod http;
mod images;
mod item;
mod live;
mod metrics;
mod observe;
mod observe_machines;
mod operations;
mod pools;
mod precondition;
mod problems;
mod process_session;
mod reconcile;
mod retention;
mod routes;
mod run_command;
mod runtime_snapshots;
mod secrets;
mod serve;
mod settings;
mod snapshots;
mod systemd;
mod token_use;
mod volumes;

use std::time::Duration;

pub use api_document::api_document;
pub(crate) use app::App;
pub use database::{Address, AddressError, OpenError};
pub use serve::{DEFAULT_LISTEN, ServeError, Started, serve};
pub use settings::{DescribeHost, Limits, Settings, Tls};

/// Pause before a database that failed is tried again.
const DATABASE_RETRY_DELAY: Duration = Duration::from_secs(1);
