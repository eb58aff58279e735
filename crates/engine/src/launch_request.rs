//! What a supervisor process reads on its standard input, and what it reports on its standard output until
//! its machine runs: JSON, one value per line.

mod pull_reporter;
mod report;

use std::fmt;
use std::path::PathBuf;

use mimeo_agent_protocol::message::TerminalSize;
use mimeo_net::PortMapping;
use serde::{Deserialize, Serialize};

use crate::id::{MachineId, SnapshotId};
pub use crate::machine::CloneOverrides;
use crate::machine::{MachineName, MachineSpec, ProcessIdentity, Record, ServeReference};
pub use pull_reporter::PullReporter;
pub use report::{MachineInfo, PullProgress, PullStep, StartFailure, StartFailureKind};

/// The first line: what to start.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "make", rename_all = "snake_case")]
pub enum LaunchRequest {
    /// A machine from an image.
    Run {
        /// The machine's settings.
        spec: Box<MachineSpec>,
        /// Whether to show no progress.
        quiet: bool,
        /// The client that attaches to the container.
        #[serde(default)]
        client: Option<AttachingClient>,
        /// The machine's id; random if absent.
        #[serde(default)]
        id: Option<MachineId>,
        /// Whether to write [`SupervisorReport`]s on standard output instead of the id, and nothing on standard error.
        #[serde(default)]
        report: bool,
        /// The login at the image's registry.
        #[serde(default)]
        registry_login: Option<RegistryLogin>,
    },
    /// A machine from an image that is not started. The supervisor writes reports as with `report` of a run, and ends.
    Create {
        /// The machine's settings.
        spec: Box<MachineSpec>,
        /// The machine's id; random if absent.
        id: Option<MachineId>,
        /// The login at the image's registry.
        registry_login: Option<RegistryLogin>,
    },
    /// A machine that exists and does not run.
    Start {
        /// The machine.
        machine: MachineId,
        /// The client that attaches to the container.
        client: Option<AttachingClient>,
        /// Whether to report each stage, as with a run.
        #[serde(default)]
        report: bool,
    },
    /// A clone of a machine.
    Clone(Box<CloneRequest>),
    /// A boot snapshot or stencil for later starts, whose creation failed before.
    Retry(Retry),
}

/// A login at the registry of one image, which replaces those of the login files. It is not part of the machine's spec, so
/// that it is never stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryLogin {
    /// The user.
    pub username: String,
    /// The password or token.
    pub password: String,
}

impl fmt::Debug for RegistryLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryLogin").field("username", &self.username).finish_non_exhaustive()
    }
}

impl From<RegistryLogin> for mimeo_image::Credentials {
    fn from(login: RegistryLogin) -> Self {
        Self { user: login.username, password: login.password }
    }
}

/// A client that attaches to the container as soon as it runs; the container's output waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachingClient {
    /// Its process.
    pub process: ProcessIdentity,
    /// Its terminal's size.
    pub size: Option<TerminalSize>,
}

impl AttachingClient {
    /// Returns this process as a client with a terminal of this size.
    #[must_use]
    pub fn own(size: Option<TerminalSize>) -> Self {
        Self { process: ProcessIdentity::own(), size }
    }
}

/// What to create again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "retry", rename_all = "snake_case")]
pub enum Retry {
    /// The boot snapshot of machines with this configuration, and its stencil.
    Runtime {
        /// The settings of one such machine.
        spec: Box<MachineSpec>,
    },
    /// The stencil of a machine's snapshot.
    Stencil {
        /// The snapshot.
        snapshot: SnapshotId,
    },
}

/// A request for a clone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CloneRequest {
    /// The snapshot to start it from.
    pub snapshot: SnapshotId,
    /// When its workload is thawed.
    pub hold: HoldPolicy,
    /// The snapshot server that owns it; the clone ends with the server.
    pub serve: Option<ServeReference>,
    /// The socket of the page server that supplies its memory; without one, the clone maps the memory file.
    #[serde(default)]
    pub pager: Option<PathBuf>,
    /// The settings in which it differs from its snapshot.
    pub overrides: CloneOverrides,
}

/// Number of clones in a fork from which on a stencil saves more time than its creation takes.
const MIN_CLONES_FOR_STENCIL: usize = 3;

impl CloneRequest {
    /// Whether enough clones are restored from the same snapshot to justify a stencil.
    pub(crate) fn is_worth_stencil(&self) -> bool {
        match self.hold {
            HoldPolicy::Fork { clones, .. } => clones >= MIN_CLONES_FOR_STENCIL,
            HoldPolicy::Never | HoldPolicy::Pool => true,
        }
    }
}

/// When a clone's workload is thawed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "hold", rename_all = "snake_case")]
pub enum HoldPolicy {
    /// The clone is not held: its workload is thawed as soon as its identity is applied.
    Never,
    /// When all clones of the fork are ready: a release line says so, or, if the process that forks is
    /// gone, the decision file.
    Fork {
        /// The decision file.
        decision: PathBuf,
        /// Number of clones in the fork.
        clones: usize,
    },
    /// When it is taken from the pool.
    Pool,
}

/// A later line, to a supervisor whose clone waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "go", rename_all = "snake_case")]
pub enum Release {
    /// Thaw the workload with the requested settings.
    #[serde(rename = "ahead")]
    Proceed,
    /// Thaw the workload with these overrides.
    #[serde(rename = "as")]
    ProceedAs(CloneOverrides),
    /// Thaw the workload with these overrides. The clone no longer belongs to its snapshot server, and does not end with it.
    #[serde(rename = "alone")]
    ProceedAlone(CloneOverrides),
}

/// A supervisor's report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub enum SupervisorReport {
    /// The clone has its identity, and its workload is still frozen.
    Ready {
        /// The clone.
        clone: Box<CloneInfo>,
    },
    /// The workload runs.
    Running {
        /// The clone.
        clone: Box<CloneInfo>,
    },
    /// A machine that existed before runs.
    Started,
    /// The machine has a supervisor already, or was removed.
    Supervised,
    /// A stage of the start has ended.
    Stage {
        /// Its name, as in the record's times.
        stage: String,
        /// How long it took.
        milliseconds: u64,
    },
    /// The image is being pulled.
    Pull(PullProgress),
    /// The machine runs: its agent has answered, and its container was started.
    Launched {
        /// The machine.
        machine: MachineInfo,
    },
    /// The machine was created, and is not started.
    Created {
        /// The machine.
        machine: MachineInfo,
    },
    /// The machine could not be started; everything was undone.
    Failed(StartFailure),
}

/// A clone that is ready or runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CloneInfo {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: MachineName,
    /// PID of its supervisor.
    pub pid: u32,
    /// The UUID that distinguishes it from all other clones.
    #[serde(rename = "generation")]
    pub vm_generation: String,
    /// Its IP address, if it has a network.
    pub ip: Option<std::net::Ipv4Addr>,
    /// Its published ports.
    pub ports: Vec<PortMapping>,
    /// Duration of each stage of its start in milliseconds, in order.
    pub stages: Vec<(String, u64)>,
}

impl CloneInfo {
    pub(crate) fn new(record: &Record, stages: Vec<(String, u64)>) -> Self {
        Self {
            id: record.id.to_string(),
            name: record.name.clone(),
            pid: record.supervisor.pid,
            vm_generation: record.vm_generation.clone().unwrap_or_default(),
            ip: record.network.as_ref().map(|network| network.ip),
            ports: record.network.as_ref().map(|network| network.ports.clone()).unwrap_or_default(),
            stages,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_reaches_the_supervisor_and_no_log() {
        let login = RegistryLogin { username: "me".to_owned(), password: "hunter2".to_owned() };
        let request = LaunchRequest::Create {
            spec: Box::new(MachineSpec::new("busybox")),
            id: None,
            registry_login: Some(login),
        };
        assert!(!format!("{request:?}").contains("hunter2"));
        let line = serde_json::to_string(&request).expect("a line");
        let LaunchRequest::Create { registry_login: Some(login), spec, .. } =
            serde_json::from_str(&line).expect("the request")
        else {
            panic!("another request: {line}");
        };
        assert_eq!(login.password, "hunter2");
        assert!(!serde_json::to_string(&spec).expect("a spec").contains("hunter2"));
    }

    #[test]
    fn lines_of_an_older_client_are_read() {
        let spec = serde_json::to_string(&MachineSpec::new("busybox")).expect("a spec");
        let line = format!(r#"{{"make":"run","spec":{spec},"quiet":true}}"#);
        let request = serde_json::from_str(&line).expect("a request");
        assert!(matches!(request, LaunchRequest::Run { id: None, report: false, registry_login: None, .. }));
        let failed = serde_json::from_str(r#"{"report":"failed","message":"no","code":127}"#);
        let SupervisorReport::Failed(failure) = failed.expect("a report") else { panic!("another report") };
        assert_eq!((failure.code, failure.kind, failure.stage), (127, StartFailureKind::Other, None));
    }

    #[test]
    fn a_kind_that_is_not_known_is_other() {
        let line = r#"{"report":"failed","message":"no","kind":"on_fire","stage":"boot"}"#;
        let SupervisorReport::Failed(failure) = serde_json::from_str(line).expect("a report") else {
            panic!("another report")
        };
        assert_eq!(failure.kind, StartFailureKind::Other);
    }
}
