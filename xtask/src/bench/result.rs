//! What was measured: kept as JSON, from which the page is made.

use serde::{Deserialize, Serialize};

use super::host::Host;
use super::samples::Samples;

/// All of one run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Bench {
    pub(super) host: Host,
    /// What ran mimeo's instructions, and why.
    pub(super) accelerator: String,
    /// podman, where it was measured.
    pub(super) podman: Option<String>,
    pub(super) kernels: Vec<(Key, String)>,
    pub(super) notes: Vec<String>,
    pub(super) series: Vec<Series>,
    pub(super) stages: Vec<Stage>,
    pub(super) soaks: Vec<Soak>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    FirstOutput,
    WholeRun,
    ExecCommand,
    ExecSession,
}

/// Who does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Key {
    MimeoDebian,
    MimeoOwn,
    Podman,
    PodmanNoNetwork,
}

/// Samples of one thing.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Series {
    pub(super) what: What,
    pub(super) key: Key,
    pub(super) millis: Samples,
}

/// Samples of one stage of the start.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stage {
    pub(super) key: Key,
    pub(super) stage: String,
    pub(super) millis: Samples,
}

/// Boots in a row.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Soak {
    pub(super) key: Key,
    /// Of those that ended well.
    pub(super) samples: Samples,
    pub(super) hung: u32,
    /// What the others said.
    pub(super) failures: Vec<String>,
}

impl Bench {
    pub(super) fn new(host: Host) -> Self {
        Self {
            host,
            accelerator: String::new(),
            podman: None,
            kernels: Vec::new(),
            notes: Vec::new(),
            series: Vec::new(),
            stages: Vec::new(),
            soaks: Vec::new(),
        }
    }

    /// Something that a reader must know; told at once as well.
    pub(super) fn note(&mut self, note: String) {
        eprintln!("{note}");
        self.notes.push(note);
    }

    pub(super) fn sample(&mut self, what: What, key: Key, millis: f64) {
        if self.find(what, key).is_none() {
            self.series.push(Series { what, key, millis: Samples::default() });
        }
        let series = self.series.iter_mut().find(|series| series.what == what && series.key == key);
        series.into_iter().for_each(|series| series.millis.push(millis));
    }

    pub(super) fn stage(&mut self, key: Key, stage: &str, millis: f64) {
        let known = self.stages.iter_mut().find(|known| known.key == key && known.stage == stage);
        if let Some(known) = known {
            return known.millis.push(millis);
        }
        let mut samples = Samples::default();
        samples.push(millis);
        self.stages.push(Stage { key, stage: stage.to_owned(), millis: samples });
    }

    pub(super) fn find(&self, what: What, key: Key) -> Option<&Samples> {
        let series = self.series.iter().find(|series| series.what == what && series.key == key);
        series.map(|series| &series.millis)
    }
}

impl What {
    /// For people.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::FirstOutput => "cold run, to the first output",
            Self::WholeRun => "cold run, whole command",
            Self::ExecCommand => "`exec NAME true`, whole command",
            Self::ExecSession => "exec of `true` over one session",
        }
    }
}

impl Key {
    /// For people.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::MimeoDebian => "mimeo, Debian's kernel",
            Self::MimeoOwn => "mimeo, our kernel",
            Self::Podman => "podman, with network",
            Self::PodmanNoNetwork => "podman, no network",
        }
    }

    /// For file names.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::MimeoDebian => "debian",
            Self::MimeoOwn => "own",
            Self::Podman => "podman",
            Self::PodmanNoNetwork => "podman-none",
        }
    }

    /// Whether it is mimeo.
    pub(super) fn is_mimeo(self) -> bool {
        matches!(self, Self::MimeoDebian | Self::MimeoOwn)
    }
}

/// The most milliseconds that the median may be.
pub(super) fn bar(what: What, key: Key) -> Option<f64> {
    match (what, key) {
        (What::FirstOutput, Key::MimeoDebian) => Some(2000.0),
        (What::FirstOutput, Key::MimeoOwn) => Some(1000.0),
        (What::ExecSession, _) => Some(15.0),
        (What::ExecCommand, Key::MimeoDebian | Key::MimeoOwn) => Some(80.0),
        (What::WholeRun, _) | (_, Key::Podman | Key::PodmanNoNetwork) => None,
    }
}

impl Soak {
    pub(super) fn new(key: Key) -> Self {
        Self { key, samples: Samples::default(), hung: 0, failures: Vec::new() }
    }

    pub(super) fn failed(&mut self, hung: bool, why: &str) {
        self.hung += u32::from(hung);
        self.failures.push(why.to_owned());
    }
}
