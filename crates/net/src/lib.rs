//! Addresses of machines, the ports that they publish, and the bridge that they may be on.

pub mod bridged;
mod mac;
mod port;
mod subnet;

pub use mac::MacAddress;
pub use port::{ParsePortError, PortMapping, Protocol};
pub use subnet::{Subnet, SubnetsExhausted};
