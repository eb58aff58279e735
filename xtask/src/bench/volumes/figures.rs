//! The results of `bench volumes`. The JSON's keys are a format: the committed samples use them.

use serde::{Deserialize, Serialize};

use crate::bench::host::Host;
use crate::bench::samples::Samples;

/// The name and the milliseconds of each measurement of one round.
pub(super) type Figures = Vec<(String, f64)>;

/// The results of one benchmark.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::bench) struct Volumes {
    pub(super) host: Host,
    pub(super) guest_kernel: String,
    pub(super) podman: String,
    /// MiB of the large file.
    pub(super) mib: u32,
    /// Number of small files.
    pub(super) files: u32,
    pub(super) series: Vec<Series>,
}

/// Where the files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Subject {
    /// A directory that a machine shares with the host.
    Shared,
    /// The machine's own writable disk.
    Disk,
    /// podman's bind mount of the same directory.
    Podman,
    /// The directory itself, without any container.
    Host,
}

/// The samples of one measurement in one location, in milliseconds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Series {
    pub(super) measurement: String,
    pub(super) subject: Subject,
    pub(super) millis: Samples,
}

impl Volumes {
    pub(super) fn new(host: Host, guest_kernel: String, podman: String, mib: u32, files: u32) -> Self {
        Self { host, guest_kernel, podman, mib, files, series: Vec::new() }
    }

    /// Adds the samples of one round.
    pub(super) fn add(&mut self, subject: Subject, figures: Figures) {
        for (measurement, millis) in figures {
            self.series_of(subject, measurement).push(millis);
        }
    }

    fn series_of(&mut self, subject: Subject, measurement: String) -> &mut Samples {
        let present = self.series.iter().position(|s| s.subject == subject && s.measurement == measurement);
        let at = present.unwrap_or_else(|| {
            self.series.push(Series { measurement, subject, millis: Samples::default() });
            self.series.len() - 1
        });
        &mut self.series[at].millis
    }

    /// The median of a measurement in one location.
    pub(super) fn median(&self, subject: Subject, measurement: &str) -> Option<f64> {
        let series = self.series.iter().find(|s| s.subject == subject && s.measurement == measurement)?;
        Some(series.millis.percentile(50.0))
    }
}

impl Subject {
    /// The label in messages.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Shared => "shared directory",
            Self::Disk => "the machine's own disk",
            Self::Podman => "podman's bind mount",
            Self::Host => "host",
        }
    }
}
