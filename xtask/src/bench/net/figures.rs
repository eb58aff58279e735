//! What is measured.

use serde::{Deserialize, Serialize};

use crate::bench::host::Host;
use crate::bench::samples::Samples;

/// A whole measurement.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::bench) struct Net {
    pub(in crate::bench) host: Host,
    pub(super) guest_kernel: String,
    pub(super) ways: Vec<Figures>,
}

/// How the other end is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    /// A process of the host, over its loopback.
    Host,
    /// A machine's published port, user-mode networking.
    Rootless,
    /// A machine's published port, on 127.0.0.1, over the bridge.
    BridgedPublished,
    /// A machine's own address on the bridge.
    Bridged,
}

/// Samples of one way.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Figures {
    pub(super) way: Way,
    /// Milliseconds from the connect to the first byte of the other end.
    pub(super) connect: Samples,
    /// Milliseconds for [`MIB`](super::probe::MIB) MiB to the other end, to its acknowledgement.
    pub(super) to: Samples,
    /// The same from there.
    pub(super) from: Samples,
}

/// One round of one way, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Probed {
    pub(super) connect: Vec<f64>,
    pub(super) to: f64,
    pub(super) from: f64,
}

impl Net {
    pub(super) fn new(host: Host, guest_kernel: String) -> Self {
        Self { host, guest_kernel, ways: Vec::new() }
    }

    pub(super) fn add(&mut self, way: Way, probed: Probed) {
        if !self.ways.iter().any(|figures| figures.way == way) {
            let none = Samples::default;
            self.ways.push(Figures { way, connect: none(), to: none(), from: none() });
        }
        for figures in self.ways.iter_mut().filter(|figures| figures.way == way) {
            probed.connect.iter().for_each(|millis| figures.connect.push(*millis));
            figures.to.push(probed.to);
            figures.from.push(probed.from);
        }
    }

    /// The figures of one way.
    pub(super) fn of(&self, way: Way) -> Option<&Figures> {
        self.ways.iter().find(|figures| figures.way == way)
    }
}

impl Way {
    /// For people.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Host => "the bare host, over its loopback",
            Self::Rootless => "rootless, by a published port",
            Self::BridgedPublished => "bridged, by a published port on 127.0.0.1",
            Self::Bridged => "bridged, by the machine's address",
        }
    }

    /// For names of machines.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Rootless => "rootless",
            Self::BridgedPublished => "published",
            Self::Bridged => "bridged",
        }
    }
}
