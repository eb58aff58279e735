//! Why a seed cannot be made.

use std::io;
use std::net::IpAddr;

/// Why a seed cannot be made. Values that the requester gave are quoted.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The instance id cannot name cloud-init's directory of the instance.
    #[error(
        "cannot use {0:?} as the instance id: it must have 1 to 128 letters, digits, `.`, `_` or `-`, and start with a \
         letter or digit"
    )]
    InstanceId(String),
    /// The host name is not a list of labels.
    #[error(
        "cannot use {0:?} as the host name: it must have at most 253 characters, in labels of 1 to 63 letters, digits, \
         `_` or `-` that start and end with a letter or digit"
    )]
    HostName(String),
    /// A search domain is not a list of labels.
    #[error("cannot use {0:?} as a search domain: it is not a domain name")]
    SearchDomain(String),
    /// An SSH key is not one line of text.
    #[error(
        "cannot use SSH key {number}: it must be one line of at most {limit} bytes, as in an authorized_keys file"
    )]
    SshKey {
        /// Its position, from 1.
        number: usize,
        /// The longest line, in bytes.
        limit: usize,
    },
    /// A list is too long.
    #[error("cannot use {count} {what}: a seed has at most {limit}")]
    TooMany {
        /// What the list has.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// User-data or vendor-data is too long.
    #[error("cannot use the {what}: it has {size} bytes, and at most {limit} are supported")]
    TooLong {
        /// The name of the file.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The greatest size in bytes.
        limit: usize,
    },
    /// Two interfaces have one MAC address, so neither can be found by it.
    #[error("cannot configure two interfaces with the MAC address {0}")]
    SameMac(String),
    /// The prefix is longer than an address.
    #[error("cannot use the address {address}/{prefix}: the prefix has at most {limit} bits")]
    Prefix {
        /// The address.
        address: IpAddr,
        /// The prefix's length in bits.
        prefix: u8,
        /// The greatest length.
        limit: u8,
    },
    /// The guest could not reach its gateway.
    #[error("cannot use the gateway {gateway}: it is not in {address}/{prefix}")]
    Gateway {
        /// The gateway.
        gateway: IpAddr,
        /// The guest's address.
        address: IpAddr,
        /// The prefix's length in bits.
        prefix: u8,
    },
    /// The MTU is outside of what Ethernet and IPv4 allow.
    #[error("cannot use the MTU {0}: it must be from 576 to 65535")]
    Mtu(u16),
    /// A file of the seed cannot be rendered.
    #[error("cannot write the seed's {name}")]
    Render {
        /// The file.
        name: &'static str,
        /// The serializer's error.
        source: serde_json::Error,
    },
    /// The filesystem cannot be made.
    #[error("cannot make the seed's filesystem")]
    Filesystem(#[from] io::Error),
}
