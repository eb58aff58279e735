//! A Firecracker process: start, log, and exit.

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
use crate::{LaunchError, LaunchSpec, Network, OperationError, VmExit, cleanup, console, spawn};

/// Timeout until it listens, on a very busy host. The jail is created before; that time grows with the number
/// of the host's mounts.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(20);
/// Time between attempts to connect.
const POLL_INTERVAL: Duration = Duration::from_micros(500);
/// Timeout for its exit after it closed a connection.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout for the end of its pipes after its exit: another process may still have them open.
const PIPE_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of its standard error to keep.
const STDERR_TAIL_BYTES: usize = 8192;
/// Bytes at the end of the log that may be in an error message.
const LOG_TAIL_BYTES: u64 = 4096;
/// Lines at the end of the log that may be in an error message.
const LOG_TAIL_LINES: usize = 8;

/// A Firecracker, running or exited.
#[derive(Debug)]
pub(super) struct Process {
    program: String,
    child: Child,
    /// Firecracker's own PID; a jailed one is not `child`, which is its warden.
    pid: u32,
    layout: Layout,
    log_file: std::path::PathBuf,
    /// Kept until Firecracker has opened the pipe.
    pipe_writer: Option<pipe::Sender>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    log_tasks: Vec<JoinHandle<()>>,
    exit: Option<VmExit>,
}

impl Process {
    /// Starts the program in the layout's directory.
    pub(super) fn start(
        program: &Path,
        spec: &LaunchSpec,
        directory: &Path,
        mut layout: Layout,
    ) -> Result<Self, LaunchError> {
        let name = program.display().to_string();
        let log_file = directory.join(names::LOG);
        // Errors of an earlier run must not be reported for this one.
        cleanup::remove_file(&log_file);
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
        // A child process that has not been reaped has an id.
        let pid = child.id().unwrap_or_default();
        let pipe_writer = Some(pipe_writer);
        Ok(Self { program: name, child, pid, layout, log_file, pipe_writer, stderr, log_tasks, exit: None })
    }

    /// Firecracker's own PID, once its API has answered.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// The directory in which it runs.
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Waits until its API answers.
    pub(super) async fn wait_for_api(&mut self) -> Result<Api, LaunchError> {
        match timeout(LISTEN_TIMEOUT, self.connect()).await {
            Ok(Ok(api)) => Ok(api),
            Ok(Err(error)) => Err(self.launch_error(error).await),
            Err(_) => Err(LaunchError::Operation(OperationError::Timeout {
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

    /// Finds the PID of a jailed Firecracker, which is not our child process and runs in another PID
    /// namespace. The kernel gives the PID of a socket's listener in our namespace.
    async fn find_firecracker_pid(&mut self) {
        let stream = super::socket::connect(self.layout.directory(), names::API).await;
        match stream.and_then(|stream| stream.peer_cred()).map(|peer| peer.pid()) {
            Ok(Some(pid)) => self.pid = pid.cast_unsigned(),
            other => tracing::warn!(?other, "cannot get the PID of the listener on {}", names::API),
        }
    }

    /// The error of a failed step. If Firecracker has exited, it contains the tail of its log.
    pub(super) async fn launch_error(&mut self, error: ApiError) -> LaunchError {
        let step = match &error {
            ApiError::Connect { step, .. } | ApiError::Disconnected { step, .. } => step.clone(),
            _ => return LaunchError::Operation(error.into()),
        };
        match timeout(EXIT_TIMEOUT, self.wait()).await {
            Ok(exit) => LaunchError::Ended { program: self.program.clone(), step, how: describe_exit(&exit) },
            Err(_) => LaunchError::Operation(error.into()),
        }
    }

    /// Waits until it exits. Cancel-safe, and can be called again.
    pub(super) async fn wait(&mut self) -> VmExit {
        if let Some(exit) = &self.exit {
            return exit.clone();
        }
        let status = self.child.wait().await;
        self.pipe_writer = None;
        while let Some(task) = self.log_tasks.last_mut() {
            // After the timeout the task is left to run on its own.
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

    /// Kills it, and waits until it has exited.
    pub(super) async fn kill(&mut self) {
        if self.exit.is_none() {
            self.send_kill();
            self.wait().await;
        }
    }

    fn send_kill(&mut self) {
        match (self.layout.jail(), self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()))) {
            // The warden kills Firecracker, and exits after it. This and the other fail only if the process has
            // been reaped already.
            (Some(_), Some(warden)) => kill_process(warden, Signal::TERM).ok(),
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
        // Wait: the layout's files are removed next.
        let child = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(Ok(handle)) = child.map(|child| pidfd_open(child, PidfdFlags::empty())) {
            let limit = Timespec { tv_sec: EXIT_TIMEOUT.as_secs().cast_signed(), tv_nsec: 0 };
            // On a timeout or an error the files are removed all the same.
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
    // Our environment must not reach the VMM.
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
            step: format!("find TAP device {} in the machine's network namespace", tap.name),
            source,
        },
        _ if source.kind() == std::io::ErrorKind::NotFound => {
            LaunchError::NotInstalled { program: program.to_owned() }
        }
        _ => LaunchError::Spawn { program: program.to_owned(), source },
    }
}

/// Collects the tail of its standard error.
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

/// The last lines of the log.
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

/// The text for an exit.
pub(super) fn describe_exit(exit: &VmExit) -> String {
    match exit {
        VmExit::Off => "no error message".to_owned(),
        VmExit::Failed { status, stderr } if stderr.is_empty() => status.clone(),
        VmExit::Failed { status, stderr } => format!("{stderr} ({status})"),
    }
}

/// The text for an exit status, with Firecracker's meaning of it.
fn describe_status(status: ExitStatus) -> String {
    let meaning = match status.code() {
        Some(148) => "a system call that its seccomp filter forbids",
        Some(149) => "SIGBUS: a mapped file is too short",
        Some(150) => "SIGSEGV",
        Some(151) => "SIGXFSZ: a written file is too large",
        Some(152) => "invalid settings",
        Some(153) => "invalid arguments",
        _ => return status.to_string(),
    };
    format!("{status}: {meaning}")
}
