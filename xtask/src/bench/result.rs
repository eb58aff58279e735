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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) soaks: Vec<Soak>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) footprints: Vec<Footprint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) crowds: Option<Crowds>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    FirstOutput,
    WholeRun,
    ExecCommand,
    ExecSession,
    /// `run --rm IMAGE true`, from a guest that has booted.
    WarmRun,
    /// The same kernel and first filesystem, to the agent's hello.
    PlainBoot,
    /// A copy of a snapshot, by the engine's own way.
    FirstExec,
    /// The same by two commands.
    FirstExecCommands,
    /// The first way, with the memory not in the page cache.
    FirstExecUncached,
    /// The same, with the pages that are needed first read ahead.
    FirstExecAhead,
    /// A copy from a pool, by the engine's own way.
    PoolExec,
    /// The same by two commands.
    PoolExecCommands,
    /// Copies at once, to the last one's first exec.
    Crowd {
        copies: u32,
    },
    /// How long a fork says that its source stood still.
    Pause {
        memory_mib: u32,
    },
    /// What a client of the source sees of it.
    Gap {
        memory_mib: u32,
    },
    /// What it sees without a fork.
    QuietGap {
        memory_mib: u32,
    },
    /// The pause of a guest that has changed so much of its memory.
    PauseChanged {
        changed_mib: u32,
    },
    /// The stage in which a copy is given its disk.
    Disk {
        written_mib: u32,
    },
    /// The first copy of a snapshot lays its memory out.
    Layout {
        written_mib: u32,
    },
}

/// Who does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Key {
    MimeoDebian,
    MimeoOwn,
    Podman,
    PodmanNoNetwork,
    PlainDebian,
    PlainOwn,
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

/// What became of copies that were asked for at once.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Crowds {
    pub(super) asked: u32,
    /// What those said that did not answer, or others of them.
    pub(super) lost: Vec<String>,
}

/// What copies of one snapshot cost their host together.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Footprint {
    /// Whether they have done some work.
    pub(super) worked: bool,
    pub(super) copies: Vec<Cost>,
}

/// What one machine costs its host, in bytes, as `stats` tells it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Cost {
    pub(super) pss: u64,
    pub(super) unique: u64,
    pub(super) shared: u64,
    pub(super) monitor: u64,
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
            crowds: None,
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
    pub(super) fn words(self) -> String {
        match self {
            Self::FirstOutput => "cold run, to the first output".to_owned(),
            Self::WholeRun => "cold run, whole command".to_owned(),
            Self::ExecCommand => "`exec NAME true`, whole command".to_owned(),
            Self::ExecSession => "exec of `true` over one session".to_owned(),
            Self::WarmRun => "`run --rm IMAGE true`, whole command".to_owned(),
            Self::PlainBoot => "boot, to the agent's first answer".to_owned(),
            Self::FirstExec => "copy, to its first exec answered".to_owned(),
            Self::FirstExecCommands => "`snapshot run` and `exec`, both commands".to_owned(),
            Self::FirstExecUncached => "copy of memory on the disk, to its first exec".to_owned(),
            Self::FirstExecAhead => "the same, what it needs first read ahead".to_owned(),
            Self::PoolExec => "copy from a pool, to its first exec answered".to_owned(),
            Self::PoolExecCommands => "`snapshot run --pid` and `exec`, both commands".to_owned(),
            Self::Crowd { copies } => format!("{copies} copies at once, to the last first exec"),
            Self::Pause { memory_mib } => format!("fork of {memory_mib} MiB: the source stands still"),
            Self::Gap { memory_mib } => format!("fork of {memory_mib} MiB: a client's longest wait"),
            Self::QuietGap { memory_mib } => format!("no fork, {memory_mib} MiB: a client's longest wait"),
            Self::PauseChanged { changed_mib } => {
                format!("fork, {changed_mib} MiB written before: the source stands still")
            }
            Self::Disk { written_mib } => format!("a copy's disk, {written_mib} MiB written in the source"),
            Self::Layout { written_mib } => {
                format!("the first copy's memory laid out, {written_mib} MiB written")
            }
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
            Self::PlainDebian => "plain QEMU, Debian's kernel",
            Self::PlainOwn => "plain QEMU, our kernel",
        }
    }

    /// For file names.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::MimeoDebian => "debian",
            Self::MimeoOwn => "own",
            Self::Podman => "podman",
            Self::PodmanNoNetwork => "podman-none",
            Self::PlainDebian => "plain-debian",
            Self::PlainOwn => "plain-own",
        }
    }

    /// Whether it is mimeo.
    pub(super) fn is_mimeo(self) -> bool {
        matches!(self, Self::MimeoDebian | Self::MimeoOwn)
    }

    /// Plain QEMU with the same kernel.
    pub(super) fn plain(self) -> Self {
        if self == Self::MimeoOwn { Self::PlainOwn } else { Self::PlainDebian }
    }
}

/// What a line is to come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Bar {
    /// The most milliseconds that the median may be, and that 99 of 100 may.
    Millis { p50: f64, p99: Option<f64> },
    /// The most times podman's median that the median may be.
    ToPodman(f64),
}

/// What a line is to come to, if that was said.
pub(super) fn bar(what: What, key: Key) -> Option<Bar> {
    let median = |p50| Some(Bar::Millis { p50, p99: None });
    match (what, key) {
        (What::FirstOutput, Key::MimeoDebian) => median(2000.0),
        (What::FirstOutput, Key::MimeoOwn) => median(1000.0),
        (What::ExecSession, _) => median(15.0),
        (What::ExecCommand, Key::MimeoDebian | Key::MimeoOwn) => median(80.0),
        (What::WarmRun, Key::MimeoDebian | Key::MimeoOwn) => Some(Bar::ToPodman(0.6)),
        (What::FirstExec, _) => Some(Bar::Millis { p50: 80.0, p99: Some(200.0) }),
        (What::PoolExec, _) => Some(Bar::Millis { p50: 20.0, p99: Some(50.0) }),
        (What::Crowd { copies: 50 }, _) => median(5000.0),
        (What::Pause { .. }, _) => median(50.0),
        (What::Disk { .. }, _) => median(5.0),
        _ => None,
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
