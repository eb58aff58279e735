//! Starts a process of the container.
//!
//! Everything that allocates is done before the fork. Between fork and exec there
//! are only system calls (`child.rs`). A failure there is reported with its stage
//! through a pipe, which a successful exec closes.

mod child;
mod init;
mod masks;
mod privileges;
mod report;
mod resolve;

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use mimeo_agent_protocol::message::{ExitStatus, Failure, Process};
use nix::sched::{CloneFlags, setns};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::oneshot;

use crate::blocking::{ContainerRoot, run_in_container};
use crate::failure::{Context, SystemError};
use crate::machine::{Configured, Container};
use crate::reaper::Reaper;
use crate::streams::ProcessEnds;
use crate::{cgroup, sysctl};
use report::Report;
pub(crate) use resolve::{Command, read_image_file, resolve_user};

/// A process that was started.
#[derive(Debug)]
pub(crate) struct Launched {
    /// Its PID in the agent's namespace.
    pub(crate) pid: i32,
    /// Its PID in the container's namespace.
    pub(crate) inner_pid: u32,
    pub(crate) pidfd: Arc<OwnedFd>,
    /// Its namespaces, when new ones were created for it.
    pub(crate) namespaces: Option<Namespaces>,
    pub(crate) ended: oneshot::Receiver<ExitStatus>,
}

/// Open namespaces of a process, which outlive it.
#[derive(Debug)]
pub(crate) struct Namespaces {
    pub(crate) mount_ns: Arc<OwnedFd>,
    pub(crate) uts_ns: Arc<OwnedFd>,
}

impl Namespaces {
    pub(crate) fn open(pid: i32) -> Result<Self, SystemError> {
        let open_file = |name: &str| {
            let path = format!("/proc/{pid}/ns/{name}");
            let file = std::fs::File::open(&path).context(format!("open {path}"))?;
            Ok(Arc::new(OwnedFd::from(file)))
        };
        Ok(Self { mount_ns: open_file("mnt")?, uts_ns: open_file("uts")? })
    }
}

/// Where to start a process.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LaunchInto<'a> {
    /// In new namespaces, as the container's own process.
    NewContainer(&'a Configured),
    /// In the container's namespaces and cgroup.
    Container(&'a Container),
    /// In the container's namespaces and in another cgroup, so that it runs while the container is frozen.
    Aside(&'a Container),
}

/// Resolves what a process refers to in the container: user, home, directory.
pub(crate) async fn resolve(
    process: Process,
    root: ContainerRoot,
    hostname: String,
    is_container: bool,
) -> Result<Command, Failure> {
    run_in_container(root, move || Command::resolve(process, &hostname, is_container)).await
}

/// Forks, and waits until the program runs or its start has failed.
pub(crate) async fn launch(
    command: &Command,
    into: LaunchInto<'_>,
    process_ends: ProcessEnds,
    reaper: &Reaper,
) -> Result<Launched, Failure> {
    let (report, child_report) = Report::pipe()?;
    let (start_reader, start_writer) = pipe_with(PipeFlags::CLOEXEC).context("create a pipe")?;
    let (pid, pidfd) = fork(command, into, &process_ends, (&child_report, &start_reader))?;
    let ended = reaper.expect(pid);
    // Opened before the process runs: a short-lived one may end before they could be opened.
    let namespaces = matches!(into, LaunchInto::NewContainer(_)).then(|| Namespaces::open(pid));
    rustix::io::write(&start_writer, &[1]).context("let the process start")?;
    let namespaces = namespaces.transpose()?;
    // The process's ends must be closed here, or the agent never sees the end of the streams.
    drop((process_ends, child_report));
    let inner_pid = report.wait_for_exec(command, into).await?;
    Ok(Launched { pid, inner_pid, pidfd: Arc::new(pidfd), namespaces, ended })
}

fn fork(
    command: &Command,
    into: LaunchInto<'_>,
    process_ends: &ProcessEnds,
    (report, start_reader): (&OwnedFd, &OwnedFd),
) -> Result<(i32, OwnedFd), SystemError> {
    let cgroup = match into {
        LaunchInto::Aside(_) => cgroup::open_aside()?,
        LaunchInto::NewContainer(_) | LaunchInto::Container(_) => cgroup::open()?,
    };
    let sysctls = match into {
        LaunchInto::NewContainer(machine) => sysctl_files(&machine.sysctls),
        LaunchInto::Container(_) | LaunchInto::Aside(_) => Vec::new(),
    };
    let argv = child::pointers(&command.args);
    let envp = child::pointers(&command.env);
    let plan = child::Plan {
        join: match into {
            LaunchInto::NewContainer(machine) => child::Join::New(child::NewContainer {
                read_only: machine.read_only,
                masked: command.masked,
                sysctls: &sysctls,
            }),
            LaunchInto::Container(container) | LaunchInto::Aside(container) => {
                child::Join::Container { pidfd: container.pidfd.as_raw_fd() }
            }
        },
        terminal: process_ends.terminal.as_deref(),
        stdio: process_ends
            .stdio
            .as_ref()
            .map(|files| [&files[0], &files[1], &files[2]].map(AsRawFd::as_raw_fd)),
        credentials: &command.credentials,
        privileges: &command.privileges,
        directory: &command.directory,
        candidates: &command.candidates,
        argv: &argv,
        envp: &envp,
        init: command.init,
        report: report.as_raw_fd(),
        start: matches!(into, LaunchInto::NewContainer(_)).then(|| start_reader.as_raw_fd()),
    };
    match into {
        LaunchInto::NewContainer(_) => child::fork(&plan, &cgroup, true).context("fork"),
        LaunchInto::Container(container) | LaunchInto::Aside(container) => {
            fork_in_pid_namespace(&container.pidfd, || child::fork(&plan, &cgroup, false))
        }
    }
}

/// Runs `fork` while the children of this thread are created in the PID namespace of `pidfd`.
fn fork_in_pid_namespace<T>(
    pidfd: &OwnedFd,
    fork: impl FnOnce() -> std::io::Result<T>,
) -> Result<T, SystemError> {
    let own_namespace =
        std::fs::File::open("/proc/self/ns/pid").context("open the agent's process namespace")?;
    setns(pidfd, CloneFlags::CLONE_NEWPID).context("enter the container's process namespace")?;
    let result = fork().context("fork");
    setns(own_namespace, CloneFlags::CLONE_NEWPID).context("return to the agent's process namespace")?;
    result
}

/// The files of the settings below the container's root, and their values.
fn sysctl_files(settings: &sysctl::Settings) -> Vec<(CString, CString)> {
    let files = settings.iter().filter_map(|(name, value)| Some((sysctl::path(name).ok()?, value)));
    files
        .map(|(path, value)| {
            (c_string(path.strip_prefix("/").unwrap_or(&path).to_string_lossy().as_ref()), c_string(value))
        })
        .collect()
}

/// Converts to a C string. It ends at the first NUL, which only a text of a request can contain.
fn c_string(text: &str) -> CString {
    let text = text.split('\0').next().unwrap_or_default();
    CString::new(text).unwrap_or_else(|_| CStr::to_owned(c""))
}
