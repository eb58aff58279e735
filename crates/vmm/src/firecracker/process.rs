//! A Firecracker process: its start, its words and its end.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::api::{Api, ApiError};
use super::jail::machine_id;
use super::layout::Layout;
use super::names;
use crate::{LaunchError, LaunchSpec, Network, OperationError, VmExit, console, spawn};

/// How long it may take until it listens, on a host that is very busy: a jail
/// is made before, whose time grows with the host's mounts.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(20);
/// From one look to the next.
const POLL_INTERVAL: Duration = Duration::from_micros(500);
/// How long its end may take after it broke off an answer.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long its pipes may be open after its end: whoever else has them open
/// has no business with them.
const PIPE_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of its standard error that are kept.
const STDERR_TAIL_BYTES: usize = 8192;
/// Bytes of its log that its last words may be in.
const LOG_TAIL_BYTES: u64 = 4096;
/// Lines of its log that are its last words.
const LOG_TAIL_LINES: usize = 8;

/// It, running or ended.
#[derive(Debug)]
pub(super) struct Process {
    program: String,
    child: Child,
    /// Firecracker's own; the child is its warden where it is jailed.
    pid: u32,
    layout: Layout,
    log_file: std::path::PathBuf,
    /// Held until it has the pipe open itself.
    pipe_writer: Option<pipe::Sender>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    log_tasks: Vec<JoinHandle<()>>,
    exit: Option<VmExit>,
}

impl Process {
    /// Starts the program in a place.
    pub(super) fn start(
        program: &Path,
        spec: &LaunchSpec,
        directory: &Path,
        mut layout: Layout,
    ) -> Result<Self, LaunchError> {
        let name = program.display().to_string();
        let log_file = directory.join(names::LOG);
        // Another time's last words are not this one's.
        std::fs::remove_file(&log_file).ok();
        let (log, pipe_writer) = layout.log_pipe()?;
        let command = command(program, spec, directory, &mut layout);
        let started = command.get_program().display().to_string();
        let spawned = Command::from(command).kill_on_drop(true).spawn();
        let mut child = spawned.map_err(|source| spawn_error(&started, spec, source))?;
        let mut log_tasks = vec![tokio::spawn(console::copy_to_file(log, log_file.clone()))];
        log_tasks.extend(
            child.stdout.take().map(|out| tokio::spawn(console::copy_to_file(out, spec.console.clone()))),
        );
        let stderr = child.stderr.take().map(|stderr| tokio::spawn(read_tail(stderr)));
        // A child that has not been waited for has an id.
        let pid = child.id().unwrap_or_default();
        let pipe_writer = Some(pipe_writer);
        Ok(Self { program: name, child, pid, layout, log_file, pipe_writer, stderr, log_tasks, exit: None })
    }

    /// Firecracker's own process, once it has answered.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Where it runs.
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Waits until it answers.
    pub(super) async fn wait_for_api(&mut self) -> Result<Api, LaunchError> {
        match timeout(LISTEN_TIMEOUT, self.connect()).await {
            Ok(Ok(api)) => Ok(api),
            Ok(Err(error)) => Err(self.launch_error(error).await),
            Err(_) => Err(LaunchError::Monitor(OperationError::Silent {
                command: "to listen".to_owned(),
                seconds: LISTEN_TIMEOUT.as_secs(),
            })),
        }
    }

    async fn connect(&mut self) -> Result<Api, ApiError> {
        loop {
            match Api::connect_in(self.layout.directory().clone(), names::API).await {
                Err(error) if error.is_not_listening() => {
                    if timeout(POLL_INTERVAL, self.child.wait()).await.is_ok() {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
                Ok(api) => {
                    self.find_firecracker_pid().await;
                    self.pipe_writer = None;
                    return Ok(api);
                }
            }
        }
    }

    /// A jailed Firecracker is not our child, and knows itself by another
    /// number. Who listens on a socket is told by the kernel, in our numbers.
    async fn find_firecracker_pid(&mut self) {
        let stream = super::socket::connect(self.layout.directory(), names::API).await;
        match stream.and_then(|stream| stream.peer_cred()).map(|peer| peer.pid()) {
            Ok(Some(pid)) => self.pid = pid.cast_unsigned(),
            other => tracing::warn!(?other, "who listens on {} is not known", names::API),
        }
    }

    /// Why a step failed: if it ended, by its own last words.
    pub(super) async fn launch_error(&mut self, error: ApiError) -> LaunchError {
        let when = match &error {
            ApiError::Connect { step, .. } | ApiError::Broken { step, .. } => {
                format!("when it was asked {step}")
            }
            _ => return LaunchError::Monitor(error.into()),
        };
        match timeout(EXIT_TIMEOUT, self.wait()).await {
            Ok(exit) => LaunchError::Ended { program: self.program.clone(), when, how: describe_exit(&exit) },
            Err(_) => LaunchError::Monitor(error.into()),
        }
    }

    /// Waits for its end. Safe to cancel and to call again.
    pub(super) async fn wait(&mut self) -> VmExit {
        if let Some(exit) = &self.exit {
            return exit.clone();
        }
        let status = self.child.wait().await;
        self.pipe_writer = None;
        while let Some(task) = self.log_tasks.last_mut() {
            timeout(PIPE_TIMEOUT, task).await.ok();
            self.log_tasks.pop();
        }
        let exit = match status {
            Ok(status) if status.success() => VmExit::Off,
            Ok(status) => {
                VmExit::Failed { status: describe_status(status), stderr: self.exit_message().await }
            }
            Err(error) => VmExit::Failed { status: error.to_string(), stderr: self.exit_message().await },
        };
        self.layout.clear();
        self.exit = Some(exit.clone());
        exit
    }

    /// Ends it at once, and waits until it is gone.
    pub(super) async fn kill(&mut self) {
        if self.exit.is_none() {
            self.send_kill();
            self.wait().await;
        }
    }

    fn send_kill(&mut self) {
        match (self.layout.jail(), self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()))) {
            // The warden kills it, and is gone after it.
            (Some(_), Some(warden)) => kill_process(warden, Signal::TERM).ok(),
            // A child that is gone already is what is wanted.
            _ => self.child.start_kill().ok(),
        };
    }

    async fn exit_message(&mut self) -> String {
        let mut tail = log_tail(&self.log_file);
        if let Some(stderr) = &mut self.stderr
            && let Ok(Ok(bytes)) = timeout(PIPE_TIMEOUT, stderr).await
        {
            tail.extend(split_lines(&bytes));
        }
        self.stderr = None;
        tail.join("; ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exit.is_some() {
            return;
        }
        self.send_kill();
        // What it has in its place is removed next.
        let child = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(Ok(handle)) = child.map(|child| pidfd_open(child, PidfdFlags::empty())) {
            let limit = Timespec { tv_sec: EXIT_TIMEOUT.as_secs().cast_signed(), tv_nsec: 0 };
            poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&limit)).ok();
        }
    }
}

fn command(
    program: &Path,
    spec: &LaunchSpec,
    directory: &Path,
    layout: &mut Layout,
) -> std::process::Command {
    let mounts = layout.take_mounts();
    let mut command = match layout.jail() {
        Some(jail) => {
            let mut command = std::process::Command::new(jail.jailer());
            command.args(jail.arguments());
            command
        }
        None => {
            let mut command = std::process::Command::new(program);
            command.args(["--id", &machine_id(&spec.name, directory)]);
            command
        }
    };
    command.args(["--api-sock", names::API, "--log-path", names::LOG_PIPE, "--level", "Warning"]);
    command.current_dir(layout.root());
    // What is in our environment is none of the guest's.
    command.env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    spawn::die_with_parent(&mut command);
    if layout.jail().is_some() {
        spawn::interpose_warden(&mut command);
        spawn::bind_mounts(&mut command, mounts);
    }
    if let Some(Network::Tap(tap)) = &spec.network {
        spawn::enter_netns(&mut command, tap.namespace.clone(), tap.name.clone());
    }
    command
}

fn spawn_error(program: &str, spec: &LaunchSpec, source: std::io::Error) -> LaunchError {
    match &spec.network {
        Some(Network::Tap(tap)) if source.raw_os_error() == Some(spawn::NO_DEVICE) => LaunchError::Prepare {
            what: format!("find TAP device {} in the machine's network namespace", tap.name),
            source,
        },
        _ if source.kind() == std::io::ErrorKind::NotFound => {
            LaunchError::NotInstalled { program: program.to_owned() }
        }
        _ => LaunchError::Spawn { program: program.to_owned(), source },
    }
}

/// Gathers the last of what it says.
async fn read_tail(mut stderr: ChildStderr) -> Vec<u8> {
    let mut tail = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        tail.extend_from_slice(&buffer[..count]);
        let excess = tail.len().saturating_sub(STDERR_TAIL_BYTES);
        tail.drain(..excess);
    }
    tail
}

/// The last lines of a log.
fn log_tail(log: &Path) -> Vec<String> {
    use std::io::{Read, Seek, SeekFrom};
    let read = || {
        let mut file = std::fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        std::io::Result::Ok(bytes)
    };
    let mut lines = split_lines(&read().unwrap_or_default());
    lines.split_off(lines.len().saturating_sub(LOG_TAIL_LINES))
}

fn split_lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// An exit in words.
pub(super) fn describe_exit(exit: &VmExit) -> String {
    match exit {
        VmExit::Off => "it said nothing".to_owned(),
        VmExit::Failed { status, stderr } if stderr.is_empty() => status.clone(),
        VmExit::Failed { status, stderr } => format!("{stderr} ({status})"),
    }
}

/// An exit status, with what Firecracker means by it.
fn describe_status(status: ExitStatus) -> String {
    let meaning = match status.code() {
        Some(148) => "a system call that its filter forbids",
        Some(149) => "SIGBUS: a file that it has mapped is too short",
        Some(150) => "SIGSEGV",
        Some(151) => "SIGXFSZ: a file that it writes is too large",
        Some(152) => "settings that it does not take",
        Some(153) => "arguments that it does not take",
        _ => return status.to_string(),
    };
    format!("{status}: {meaning}")
}
