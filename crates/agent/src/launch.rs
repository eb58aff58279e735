//! How a process of the container comes to be.
//!
//! All that needs memory is made before the fork; between fork and exec there
//! are system calls only (`child.rs`), and what fails there comes back with
//! its step through a pipe that a successful exec closes.

mod child;
mod init;
mod report;
mod resolve;

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use mimeo_agent_protocol::message::{ExitStatus, Failure, Process};
use nix::sched::{CloneFlags, setns};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::oneshot;

use crate::cgroup;
use crate::failure::{Context, SystemError};
use crate::inside::{Place, inside};
use crate::machine::{Configured, Container};
use crate::reaper::Reaper;
use crate::streams::Given;
use report::Report;
pub(crate) use resolve::{Command, text as image_text};

/// A process that runs.
#[derive(Debug)]
pub(crate) struct Launched {
    /// Its id in the agent's namespace.
    pub(crate) pid: i32,
    /// Its id in the container's namespace.
    pub(crate) inner_pid: u32,
    pub(crate) pidfd: Arc<OwnedFd>,
    /// Those that it was born into, when they are its own.
    pub(crate) namespaces: Option<Namespaces>,
    pub(crate) ended: oneshot::Receiver<ExitStatus>,
}

/// Namespaces of a process, which outlive it.
#[derive(Debug)]
pub(crate) struct Namespaces {
    pub(crate) mounts: Arc<OwnedFd>,
    pub(crate) names: Arc<OwnedFd>,
}

impl Namespaces {
    fn of(pid: i32) -> Result<Self, SystemError> {
        let open = |name: &str| {
            let path = format!("/proc/{pid}/ns/{name}");
            let file = std::fs::File::open(&path).context(format!("open {path}"))?;
            Ok(Arc::new(OwnedFd::from(file)))
        };
        Ok(Self { mounts: open("mnt")?, names: open("uts")? })
    }
}

/// Where a process belongs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Within<'a> {
    /// In namespaces of its own, as the container's first.
    New(&'a Configured),
    /// With the container.
    Container(&'a Container),
    /// In the container's namespaces, and running while the container is frozen.
    Aside(&'a Container),
}

/// Looks up all that a process names in the container: user, home, directory.
pub(crate) async fn resolve(
    process: Process,
    place: Place,
    hostname: String,
    first: bool,
) -> Result<Command, Failure> {
    inside(place, move || Command::resolve(process, &hostname, first)).await
}

/// Forks, and waits until the program runs or has failed to.
pub(crate) async fn launch(
    command: &Command,
    within: Within<'_>,
    given: Given,
    reaper: &Reaper,
) -> Result<Launched, Failure> {
    let (report, theirs) = Report::pipe()?;
    let (begin, beginning) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
    let (pid, pidfd) = fork(command, within, &given, (&theirs, &begin))?;
    let ended = reaper.expect(pid);
    // Before it begins: one that does next to nothing soon has none any more.
    let namespaces = matches!(within, Within::New(_)).then(|| Namespaces::of(pid));
    rustix::io::write(&beginning, &[1]).context("let the process begin")?;
    let namespaces = namespaces.transpose()?;
    // Their ends must be closed here, or the ends of the streams never show.
    drop((given, theirs));
    let inner_pid = report.outcome(command).await?;
    Ok(Launched { pid, inner_pid, pidfd: Arc::new(pidfd), namespaces, ended })
}

fn fork(
    command: &Command,
    within: Within<'_>,
    given: &Given,
    (report, begin): (&OwnedFd, &OwnedFd),
) -> Result<(i32, OwnedFd), SystemError> {
    let cgroup = match within {
        Within::Aside(_) => cgroup::open_aside()?,
        Within::New(_) | Within::Container(_) => cgroup::open()?,
    };
    let argv = child::pointers(&command.args);
    let envp = child::pointers(&command.env);
    let plan = child::Plan {
        join: match within {
            Within::New(machine) => child::Join::New { read_only: machine.read_only },
            Within::Container(container) | Within::Aside(container) => {
                child::Join::Container { pidfd: container.pidfd.as_raw_fd() }
            }
        },
        terminal: given.terminal.as_deref(),
        stdio: given.stdio.as_ref().map(|files| [&files[0], &files[1], &files[2]].map(AsRawFd::as_raw_fd)),
        identity: &command.identity,
        directory: &command.directory,
        candidates: &command.candidates,
        argv: &argv,
        envp: &envp,
        init: command.init,
        report: report.as_raw_fd(),
        begin: matches!(within, Within::New(_)).then(|| begin.as_raw_fd()),
    };
    match within {
        Within::New(_) => child::fork(&plan, &cgroup, true).context("fork"),
        Within::Container(container) | Within::Aside(container) => {
            in_pid_namespace(&container.pidfd, || child::fork(&plan, &cgroup, false))
        }
    }
}

/// Has the children of this thread born into the namespace of `pidfd` while `fork` runs.
fn in_pid_namespace<T>(pidfd: &OwnedFd, fork: impl FnOnce() -> std::io::Result<T>) -> Result<T, SystemError> {
    let own = std::fs::File::open("/proc/self/ns/pid").context("open the agent's namespace")?;
    setns(pidfd, CloneFlags::CLONE_NEWPID).context("enter the container's process namespace")?;
    let result = fork().context("fork");
    setns(own, CloneFlags::CLONE_NEWPID).context("return to the agent's process namespace")?;
    result
}

/// A C string of ours or of a request; a NUL in the latter ends it there.
fn c_string(text: &str) -> CString {
    let text = text.split('\0').next().unwrap_or_default();
    CString::new(text).unwrap_or_else(|_| CStr::to_owned(c""))
}
