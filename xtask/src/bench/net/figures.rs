//! The results of `bench net`. The JSON's keys are a format: the committed samples use them.

use serde::{Deserialize, Serialize};

use crate::bench::host::Host;
use crate::bench::samples::Samples;

/// The results of one benchmark.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::bench) struct Net {
    pub(in crate::bench) host: Host,
    pub(super) guest_kernel: String,
    #[serde(rename = "ways")]
    pub(super) paths: Vec<Figures>,
}

/// The network path to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum NetworkPath {
    /// A process of the host, over the loopback interface.
    Host,
    /// A machine's published port, with user-mode networking.
    Rootless,
    /// A machine's published port, on 127.0.0.1, over the bridge.
    BridgedPublished,
    /// A machine's own address on the bridge.
    Bridged,
}

/// The samples of one path.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Figures {
    #[serde(rename = "way")]
    pub(super) path: NetworkPath,
    /// Milliseconds from the connect to the peer's first byte.
    pub(super) connect: Samples,
    /// Milliseconds for sending [`MIB`](super::probe::MIB) MiB to the peer, until its acknowledgement.
    #[serde(rename = "to")]
    pub(super) send: Samples,
    /// Milliseconds for receiving as many MiB from the peer.
    #[serde(rename = "from")]
    pub(super) receive: Samples,
}

/// One round on one path, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Probe {
    pub(super) connect: Vec<f64>,
    pub(super) send: f64,
    pub(super) receive: f64,
}

impl Net {
    pub(super) fn new(host: Host, guest_kernel: String) -> Self {
        Self { host, guest_kernel, paths: Vec::new() }
    }

    pub(super) fn add(&mut self, path: NetworkPath, probe: Probe) {
        if !self.paths.iter().any(|figures| figures.path == path) {
            let none = Samples::default;
            self.paths.push(Figures { path, connect: none(), send: none(), receive: none() });
        }
        for figures in self.paths.iter_mut().filter(|figures| figures.path == path) {
            probe.connect.iter().for_each(|millis| figures.connect.push(*millis));
            figures.send.push(probe.send);
            figures.receive.push(probe.receive);
        }
    }

    /// The figures of one path.
    pub(super) fn find(&self, path: NetworkPath) -> Option<&Figures> {
        self.paths.iter().find(|figures| figures.path == path)
    }
}

impl NetworkPath {
    /// The label in tables.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Host => "host process, over the loopback",
            Self::Rootless => "rootless, published port",
            Self::BridgedPublished => "bridged, published port on 127.0.0.1",
            Self::Bridged => "bridged, the machine's address",
        }
    }

    /// The name of the path's machine.
    pub(super) fn slug(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Rootless => "rootless",
            Self::BridgedPublished => "published",
            Self::Bridged => "bridged",
        }
    }
}
