//! How a copy of a machine becomes a machine of its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Interface;

/// All that tells a copy from what it was copied from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// This copy's own number: a UUID, new at every restore.
    pub generation: String,
    /// The machine's id, 64 hexadecimal digits.
    pub machine: String,
    /// Its host name.
    pub hostname: String,
    /// Nanoseconds since 1970, by the host's clock.
    pub unix_nanos: u64,
    /// 32 random bytes of the host's, as 64 hexadecimal digits.
    pub entropy: String,
    /// Its network card, if it is to use one. The hardware address is new to the card.
    pub interface: Option<Interface>,
    /// Name servers, in order.
    #[serde(default)]
    pub dns: Vec<String>,
    /// Domains to search.
    #[serde(default)]
    pub dns_search: Vec<String>,
    /// Lines for /etc/hosts besides its own: name -> address.
    #[serde(default)]
    pub hosts: BTreeMap<String, String>,
    /// What /run/mimeo/env is to hold instead of what it holds: `KEY=VALUE` lines.
    /// A value of several lines stands in double quotes, with `\n`, `\"` and `\\`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// A signal for the container's own process; it arrives at the thaw.
    #[serde(default)]
    pub signal: Option<i32>,
    /// Let the workload go on when all is done.
    #[serde(default)]
    pub thaw: bool,
    /// Only go the way: no program of the image's is run, and no key is made.
    /// Whoever is to work gets an identity of its own later.
    #[serde(default)]
    pub rehearsal: bool,
}

/// What became of one line of the identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityLine {
    /// Which one.
    pub line: Line,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it failed, or what was done, for people.
    #[serde(default)]
    pub detail: Option<String>,
}

/// The lines of an identity, in the order in which they are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The kernel's random generator has the host's entropy, and starts anew from it.
    Entropy,
    /// /run/mimeo/generation holds the copy's number.
    Generation,
    /// The wall clock is the host's.
    Clock,
    /// Host name, /etc/hosts, /etc/resolv.conf, machine id and boot id are the copy's.
    Names,
    /// So are the card's hardware address, its address and its routes.
    Network,
    /// The original's TCP connections are gone; listening sockets stay.
    Connections,
    /// SSH host keys are made anew where there were any.
    SshKeys,
    /// /run/mimeo/env holds the copy's environment.
    Environment,
    /// The programs in /etc/mimeo/clone.d have run, and the signal is sent.
    Hooks,
    /// The workload goes on.
    Thaw,
    /// A line that this side does not know.
    #[serde(other)]
    Unknown,
}

impl Line {
    /// All lines that this side knows, in order.
    pub const ALL: [Self; 10] = [
        Self::Entropy,
        Self::Generation,
        Self::Clock,
        Self::Names,
        Self::Network,
        Self::Connections,
        Self::SshKeys,
        Self::Environment,
        Self::Hooks,
        Self::Thaw,
    ];
}

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is done.
    Done,
    /// There was nothing to do.
    NotNeeded,
    /// It could not be done; the workload stays frozen.
    Failed,
    /// A line before it failed.
    NotTried,
    /// An outcome that this side does not know: not to be taken for success.
    #[serde(other)]
    Unknown,
}
