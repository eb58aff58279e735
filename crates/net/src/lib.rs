//! Addresses of machines, and the ports that they publish.

mod mac;
mod port;
mod subnet;

pub use mac::MacAddress;
pub use port::{ParsePortError, PortMapping, Protocol};
pub use subnet::{Subnet, SubnetsExhausted};
