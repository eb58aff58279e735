//! Benchmark results, saved as JSON. The JSON's keys are a format: the committed samples use them.

use serde::{Deserialize, Serialize};

use super::host::Host;
use super::samples::Samples;

/// The prefix of a clone's stages in the samples.
pub(super) const CLONE_STAGE_PREFIX: &str = "copy: ";

/// The results of one benchmark.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Bench {
    pub(super) host: Host,
    /// mimeo's accelerator and the reason for it.
    pub(super) accelerator: String,
    /// podman's version and network, if podman was measured.
    pub(super) podman: Option<String>,
    pub(super) kernels: Vec<(Subject, String)>,
    pub(super) notes: Vec<String>,
    pub(super) series: Vec<Series>,
    pub(super) stages: Vec<Stage>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) soaks: Vec<Soak>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) footprints: Vec<Footprint>,
    #[serde(default, rename = "crowds", skip_serializing_if = "Option::is_none")]
    pub(super) concurrent_starts: Option<ConcurrentStarts>,
}

/// A measured operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Measurement {
    /// `run --cold`, to the first byte of output.
    FirstOutput,
    /// `run --cold`, the whole command.
    #[serde(rename = "whole_run")]
    ColdRun,
    ExecCommand,
    ExecSession,
    /// `run --rm IMAGE true`, from a boot snapshot.
    WarmRun,
    /// A boot of the same kernel and initramfs in plain QEMU, to the agent's hello.
    PlainBoot,
    /// A clone of a snapshot, started by the engine, to its first exec.
    FirstExec,
    /// The same with two commands.
    FirstExecCommands,
    /// `FirstExec` with the memory file not in the page cache.
    FirstExecUncached,
    /// The same with the working set read ahead.
    #[serde(rename = "first_exec_ahead")]
    FirstExecPrefetched,
    /// A clone from a pool, requested by the engine, to its first exec.
    PoolExec,
    /// The same with two commands.
    PoolExecCommands,
    /// Clones started at once, to the last clone's first exec.
    #[serde(rename = "crowd")]
    ConcurrentClones {
        #[serde(rename = "copies")]
        clones: u32,
    },
    /// The source's pause that a fork reports.
    Pause {
        memory_mib: u32,
    },
    /// The longest gap between two responses that a client of the source sees during a fork.
    Gap {
        memory_mib: u32,
    },
    /// The same without a fork.
    #[serde(rename = "quiet_gap")]
    BaselineGap {
        memory_mib: u32,
    },
    /// The pause after the source has written to this much of its memory.
    PauseChanged {
        changed_mib: u32,
    },
    /// The stage that creates a clone's disk.
    Disk {
        written_mib: u32,
    },
    /// The stage in which the first clone of a snapshot flattens its memory into one file.
    #[serde(rename = "layout")]
    MemoryFlattening {
        written_mib: u32,
    },
}

/// The measured system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Subject {
    MimeoDebian,
    MimeoOwn,
    Podman,
    PodmanNoNetwork,
    PlainDebian,
    PlainOwn,
}

/// The samples of one measurement of one subject.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Series {
    #[serde(rename = "what")]
    pub(super) measurement: Measurement,
    #[serde(rename = "key")]
    pub(super) subject: Subject,
    pub(super) millis: Samples,
}

/// The samples of one stage of a start.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stage {
    #[serde(rename = "key")]
    pub(super) subject: Subject,
    pub(super) stage: String,
    pub(super) millis: Samples,
}

/// Boots in a row.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Soak {
    #[serde(rename = "key")]
    pub(super) subject: Subject,
    /// The times of the successful boots.
    pub(super) samples: Samples,
    pub(super) hung: u32,
    /// The errors of all others.
    pub(super) failures: Vec<String>,
}

/// The result of starting many clones at once.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ConcurrentStarts {
    #[serde(rename = "asked")]
    pub(super) requested: u32,
    /// The errors of the clones that did not answer an exec.
    #[serde(rename = "lost")]
    pub(super) failures: Vec<String>,
}

/// The memory of several clones of one snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Footprint {
    /// Whether the clones have done some work.
    pub(super) worked: bool,
    #[serde(rename = "copies")]
    pub(super) clones: Vec<Cost>,
}

/// One machine's memory on the host in bytes, from `stats`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Cost {
    pub(super) pss: u64,
    pub(super) unique: u64,
    pub(super) shared: u64,
    #[serde(rename = "monitor")]
    pub(super) supervisor: u64,
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
            footprints: Vec::new(),
            concurrent_starts: None,
        }
    }

    /// Adds a note for the page, and prints it.
    pub(super) fn note(&mut self, note: String) {
        eprintln!("{note}");
        self.notes.push(note);
    }

    pub(super) fn sample(&mut self, measurement: Measurement, subject: Subject, millis: f64) {
        if self.find(measurement, subject).is_none() {
            self.series.push(Series { measurement, subject, millis: Samples::default() });
        }
        let series = self.series.iter_mut().find(|series| series.is(measurement, subject));
        series.into_iter().for_each(|series| series.millis.push(millis));
    }

    pub(super) fn stage(&mut self, subject: Subject, stage: &str, millis: f64) {
        let known = self.stages.iter_mut().find(|known| known.subject == subject && known.stage == stage);
        if let Some(known) = known {
            return known.millis.push(millis);
        }
        let mut samples = Samples::default();
        samples.push(millis);
        self.stages.push(Stage { subject, stage: stage.to_owned(), millis: samples });
    }

    pub(super) fn find(&self, measurement: Measurement, subject: Subject) -> Option<&Samples> {
        let series = self.series.iter().find(|series| series.is(measurement, subject));
        series.map(|series| &series.millis)
    }
}

impl Series {
    fn is(&self, measurement: Measurement, subject: Subject) -> bool {
        self.measurement == measurement && self.subject == subject
    }
}

impl Measurement {
    /// The label in tables and plots.
    pub(super) fn label(self) -> String {
        match self {
            Self::FirstOutput => "cold run, to the first output".to_owned(),
            Self::ColdRun => "cold run, whole command".to_owned(),
            Self::ExecCommand => "`exec NAME true`, whole command".to_owned(),
            Self::ExecSession => "exec of `true` over one session".to_owned(),
            Self::WarmRun => "`run --rm IMAGE true`, whole command".to_owned(),
            Self::PlainBoot => "boot, to the agent's hello".to_owned(),
            Self::FirstExec => "clone, to its first exec".to_owned(),
            Self::FirstExecCommands => "`snapshot run` and `exec`, both commands".to_owned(),
            Self::FirstExecUncached => "clone, memory not cached, to its first exec".to_owned(),
            Self::FirstExecPrefetched => "clone, memory not cached, working set read ahead".to_owned(),
            Self::PoolExec => "clone from a pool, to its first exec".to_owned(),
            Self::PoolExecCommands => "`snapshot run --pid` and `exec`, both commands".to_owned(),
            Self::ConcurrentClones { clones } => {
                format!("{clones} clones at once, to the last one's first exec")
            }
            Self::Pause { memory_mib } => format!("fork of {memory_mib} MiB: pause of the source"),
            Self::Gap { memory_mib } => format!("fork of {memory_mib} MiB: a client's longest wait"),
            Self::BaselineGap { memory_mib } => format!("no fork, {memory_mib} MiB: a client's longest wait"),
            Self::PauseChanged { changed_mib } => {
                format!("fork after {changed_mib} MiB written: pause of the source")
            }
            Self::Disk { written_mib } => format!("disk of a clone, {written_mib} MiB written in the source"),
            Self::MemoryFlattening { written_mib } => {
                format!("memory flattening for the first clone, {written_mib} MiB written")
            }
        }
    }
}

impl Subject {
    /// The label in tables and plots.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::MimeoDebian => "mimeo, Debian's kernel",
            Self::MimeoOwn => "mimeo, own kernel",
            Self::Podman => "podman, with network",
            Self::PodmanNoNetwork => "podman, no network",
            Self::PlainDebian => "plain QEMU, Debian's kernel",
            Self::PlainOwn => "plain QEMU, own kernel",
        }
    }

    /// The name in file names.
    pub(super) fn slug(self) -> &'static str {
        match self {
            Self::MimeoDebian => "debian",
            Self::MimeoOwn => "own",
            Self::Podman => "podman",
            Self::PodmanNoNetwork => "podman-none",
            Self::PlainDebian => "plain-debian",
            Self::PlainOwn => "plain-own",
        }
    }

    /// Whether mimeo is measured.
    pub(super) fn is_mimeo(self) -> bool {
        matches!(self, Self::MimeoDebian | Self::MimeoOwn)
    }

    /// The subject for plain QEMU with the same kernel.
    pub(super) fn plain(self) -> Self {
        if self == Self::MimeoOwn { Self::PlainOwn } else { Self::PlainDebian }
    }
}

/// A performance target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Target {
    /// The maximum median and 99th percentile in milliseconds.
    Millis { p50: f64, p99: Option<f64> },
    /// The maximum ratio of the median to podman's.
    ToPodman(f64),
}

/// The target of a measurement, if it has one.
pub(super) fn target(measurement: Measurement, subject: Subject) -> Option<Target> {
    let median = |p50| Some(Target::Millis { p50, p99: None });
    match (measurement, subject) {
        (Measurement::FirstOutput, Subject::MimeoDebian) => median(2000.0),
        (Measurement::FirstOutput, Subject::MimeoOwn) => median(1000.0),
        (Measurement::ExecSession, _) => median(15.0),
        (Measurement::ExecCommand, Subject::MimeoDebian | Subject::MimeoOwn) => median(80.0),
        (Measurement::WarmRun, Subject::MimeoDebian | Subject::MimeoOwn) => Some(Target::ToPodman(0.6)),
        (Measurement::FirstExec, _) => Some(Target::Millis { p50: 80.0, p99: Some(200.0) }),
        (Measurement::PoolExec, _) => Some(Target::Millis { p50: 20.0, p99: Some(50.0) }),
        (Measurement::ConcurrentClones { clones: 50 }, _) => median(5000.0),
        (Measurement::Pause { .. }, _) => median(50.0),
        (Measurement::Disk { .. }, _) => median(5.0),
        _ => None,
    }
}

impl Soak {
    pub(super) fn new(subject: Subject) -> Self {
        Self { subject, samples: Samples::default(), hung: 0, failures: Vec::new() }
    }

    pub(super) fn add_failure(&mut self, hung: bool, error: &str) {
        self.hung += u32::from(hung);
        self.failures.push(error.to_owned());
    }
}
