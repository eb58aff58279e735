//! Machine addresses, published ports, and bridged networking.

pub mod bridged;
mod mac;
mod port;
mod subnet;

pub use mac::MacAddress;
pub use port::{ParsePortError, PortMapping, Protocol};
pub use subnet::{Subnet, SubnetsExhausted};
