//! Conversions between the API's types and the engine's.

mod check;
mod choice;
mod clone;
mod error;
mod health;
mod host_access;
mod network;
mod record;
mod resources;
mod security;
mod spec;
#[cfg(test)]
mod tests;
mod volumes;
mod wire;

pub use choice::api_restart as restart_request;
pub use choice::set_accelerator;
pub use clone::clone_overrides;
pub use error::ConvertError;
pub use host_access::needs_host_access;
pub use network::api_port as port_request;
pub use record::MachineRecord;
pub use spec::{machine_spec, registry_credentials};
pub use wire::create_machine;
