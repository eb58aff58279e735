//! `exec` for programs: runs a process in a machine's container, and collects its output.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use mimeo_agent_protocol::link::{Item, LinkError, Receiver, Sender, Stream};
use mimeo_agent_protocol::message::{ExitStatus, Input, Process, Reply, Request, TerminalSize, channel};
use tokio::time::{Instant, sleep_until};

use super::ActError;
use crate::Engine;
use crate::control::{ControlClient, ControlError};
use crate::machine::{Found, Record};

const SIGKILL: i32 = 9;
/// How long a process that was killed may take to end: its output may be held open by a process that it has started.
const KILL_GRACE: Duration = Duration::from_secs(5);
/// The variable that a terminal's programs need.
const TERM: (&str, &str) = ("TERM", "xterm");

/// A process to run in a running container. It has the environment, the working directory and the user of the container's
/// own process, unless others are given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecProcess {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Environment variables in addition to the container's.
    pub env: BTreeMap<String, String>,
    /// The working directory, absolute.
    pub workdir: Option<String>,
    /// `user[:group]`.
    pub user: Option<String>,
    /// The size of its terminal, if it gets one.
    pub terminal: Option<TerminalSize>,
    /// Keep its standard input open; otherwise it is /dev/null.
    pub stdin: bool,
    /// Give it every capability in its bounding set.
    pub privileged: bool,
}

impl ExecProcess {
    /// Returns the agent's description of the process in this machine.
    #[must_use]
    pub fn in_machine(self, record: &Record) -> Process {
        let mut process = record.exec_defaults();
        if self.terminal.is_some() {
            process.env.entry(TERM.0.to_owned()).or_insert_with(|| TERM.1.to_owned());
        }
        process.env.extend(self.env);
        Process {
            args: self.command,
            cwd: self.workdir.unwrap_or(process.cwd),
            user: self.user.unwrap_or(process.user),
            terminal: self.terminal,
            stdin: self.stdin,
            privileged: self.privileged,
            ..process
        }
    }
}

/// A request for a process whose output is collected.
#[derive(Debug, Clone)]
pub struct ExecRequest {
    /// The process. `terminal` and `stdin` follow from the rest of the request.
    pub process: ExecProcess,
    /// Its standard input; /dev/null if absent.
    pub stdin: Option<Bytes>,
    /// The process is killed when it has run for so long.
    pub timeout: Option<Duration>,
    /// How many bytes of each output stream are collected. The process is not held up by what it writes beyond.
    pub max_output_bytes: usize,
}

/// The output of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CapturedOutput {
    /// Its beginning, up to the requested number of bytes.
    pub bytes: Vec<u8>,
    /// The number of bytes that the process has written.
    pub total_bytes: u64,
}

/// A process that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutcome {
    /// Its exit code as a shell shows it: 128 plus the signal's number for a signal.
    pub exit_code: i32,
    /// Whether it was killed because its time was over.
    pub timed_out: bool,
    /// Whether the guest's kernel killed it because memory ran out.
    pub out_of_memory: bool,
    /// What it wrote to standard output.
    pub stdout: CapturedOutput,
    /// What it wrote to standard error.
    pub stderr: CapturedOutput,
}

/// Runs a process in the machine's container until it has ended. At its timeout it gets SIGKILL; processes that it has started
/// run on, as with podman. So does the process itself, if the future is dropped.
///
/// # Errors
/// If the process cannot be started, or the machine ends before the process.
pub async fn exec(engine: &Engine, machine: &Found, request: ExecRequest) -> Result<ExecOutcome, ActError> {
    let ExecRequest { process, stdin, timeout, max_output_bytes } = request;
    let client = ControlClient::connect(engine.home(), machine).await?;
    let process = ExecProcess { stdin: stdin.is_some(), terminal: None, ..process };
    let (reply, stream) = client.guest(Request::Exec(process.in_machine(&machine.record))).await?;
    let name = machine.record.name.clone();
    if !matches!(reply, Reply::Started { .. }) {
        let message = format!("unexpected reply from the guest: {reply:?}");
        return Err(ControlError::Failed { name, message }.into());
    }
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let outcome = run(stream, stdin, deadline, max_output_bytes).await;
    outcome.map_err(|source| ControlError::Link { name, source }.into())
}

/// Sends the input to a process that has started, and collects its output until it has ended.
async fn run(
    stream: Stream,
    stdin: Option<Bytes>,
    mut deadline: Option<Instant>,
    max_output_bytes: usize,
) -> Result<ExecOutcome, LinkError> {
    let Stream { sender, mut receiver } = stream;
    let mut output = Output { max_bytes: max_output_bytes, ..Output::default() };
    let mut timed_out = false;
    let status = {
        let mut input = Box::pin(send_input(&sender, stdin));
        let mut end = Box::pin(output.collect(&mut receiver));
        loop {
            tokio::select! {
                status = &mut end => break status?,
                never = &mut input => never,
                () = until(deadline) => {
                    if std::mem::replace(&mut timed_out, true) {
                        break ExitStatus::Signal(SIGKILL);
                    }
                    sender.message(&Input::Signal { signal: SIGKILL });
                    deadline = Some(Instant::now() + KILL_GRACE);
                }
            }
        }
    };
    let (exit_code, out_of_memory) = (status.shell_code(), status == ExitStatus::OutOfMemory);
    Ok(ExecOutcome { exit_code, timed_out, out_of_memory, stdout: output.stdout, stderr: output.stderr })
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Sends the input and its end. Never returns: that the process does not read all of it is no error.
async fn send_input<T>(sender: &Sender, stdin: Option<Bytes>) -> T {
    if let Some(stdin) = stdin
        // Empty data is the end of the input.
        && (stdin.is_empty() || sender.data(channel::STDIN, stdin).await.is_ok())
    {
        sender.data(channel::STDIN, Bytes::new()).await.ok();
    }
    std::future::pending().await
}

#[derive(Debug, Default)]
struct Output {
    max_bytes: usize,
    stdout: CapturedOutput,
    stderr: CapturedOutput,
}

impl Output {
    /// Collects output until the process has ended.
    async fn collect(&mut self, receiver: &mut Receiver) -> Result<ExitStatus, LinkError> {
        loop {
            match receiver.next().await? {
                Some(Item::Data { channel: channel::STDERR, bytes }) => {
                    self.stderr.add(&bytes, self.max_bytes)
                }
                Some(Item::Data { bytes, .. }) => self.stdout.add(&bytes, self.max_bytes),
                Some(Item::Message(json)) => {
                    if let Ok(Reply::Exited { status }) = serde_json::from_slice(&json) {
                        return Ok(status);
                    }
                }
                None => return Err(LinkError::Closed),
            }
        }
    }
}

impl CapturedOutput {
    fn add(&mut self, bytes: &[u8], max_bytes: usize) {
        let left = max_bytes.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(left)]);
        self.total_bytes += bytes.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use mimeo_agent_protocol::link::{self, FrameReader};
    use tokio::net::UnixStream;

    use super::*;
    use crate::machine::{MachineId, MachineSpec};

    /// Runs `guest` at the other end of a stream, and the process at ours.
    async fn with_guest<G, F>(
        guest: G,
        stdin: Option<Bytes>,
        timeout: Option<Duration>,
        max: usize,
    ) -> Result<ExecOutcome, LinkError>
    where
        G: FnOnce(Stream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        tokio::spawn(async move {
            let (reader, writer) = theirs.into_split();
            let mut session = link::accept(FrameReader::new(reader), writer, "guest").await.expect("a host");
            let (_, stream) = session.incoming.next().await.expect("a request");
            guest(stream).await;
        });
        let (reader, writer) = ours.into_split();
        let (link, _) = link::connect(reader, writer, 1, "host").await.expect("a guest");
        let stream = link.open(&Request::Exec(Process::default())).expect("opened");
        run(stream, stdin, timeout.map(|timeout| Instant::now() + timeout), max).await
    }

    fn exit(stream: &Stream, status: ExitStatus) {
        stream.sender.message(&Reply::Exited { status });
    }

    #[tokio::test]
    async fn output_is_collected_up_to_the_limit() {
        let guest = |stream: Stream| async move {
            for _ in 0..100 {
                stream.sender.data(channel::STDOUT, Bytes::from_static(b"0123456789")).await.expect("sent");
            }
            stream.sender.data(channel::STDERR, Bytes::from_static(b"oops")).await.expect("sent");
            exit(&stream, ExitStatus::Code(3));
        };
        let outcome = with_guest(guest, None, None, 15).await.expect("it ended");
        assert_eq!(outcome.stdout.bytes, b"012345678901234");
        assert_eq!((outcome.stdout.total_bytes, outcome.stderr.total_bytes), (1000, 4));
        assert_eq!(
            (outcome.stderr.bytes.as_slice(), outcome.exit_code, outcome.timed_out),
            (&b"oops"[..], 3, false)
        );
    }

    #[tokio::test]
    async fn input_is_sent_with_its_end() {
        let echo = |mut stream: Stream| async move {
            while let Ok(Some(Item::Data { bytes, .. })) = stream.receiver.next().await {
                if bytes.is_empty() {
                    break;
                }
                stream.sender.data(channel::STDOUT, bytes).await.expect("sent");
            }
            exit(&stream, ExitStatus::Code(0));
        };
        let input = Bytes::from(vec![b'x'; 1 << 20]);
        let outcome = with_guest(echo, Some(input.clone()), None, 2 << 20).await.expect("it ended");
        assert_eq!((outcome.stdout.bytes.len(), outcome.exit_code), (input.len(), 0));
        let outcome = with_guest(echo, Some(Bytes::new()), None, 1).await.expect("it ended");
        assert_eq!((outcome.stdout, outcome.exit_code), (CapturedOutput::default(), 0));
    }

    #[tokio::test]
    async fn a_process_that_reads_nothing_may_end() {
        let guest = |stream: Stream| async move { exit(&stream, ExitStatus::OutOfMemory) };
        let outcome =
            with_guest(guest, Some(Bytes::from(vec![0; 8 << 20])), None, 1).await.expect("it ended");
        assert!(outcome.out_of_memory && outcome.exit_code == 137, "{outcome:?}");
    }

    #[tokio::test]
    async fn a_process_is_killed_at_its_timeout() {
        let guest = |mut stream: Stream| async move {
            let Ok(Input::Signal { signal }) = stream.receiver.message().await else { return };
            exit(&stream, ExitStatus::Signal(signal));
        };
        let outcome = with_guest(guest, None, Some(Duration::from_millis(20)), 1).await.expect("it ended");
        assert!(outcome.timed_out && outcome.exit_code == 137, "{outcome:?}");
    }

    #[tokio::test]
    async fn a_process_that_does_not_end_is_given_up() {
        let guest = |stream: Stream| async move {
            let _open = stream;
            std::future::pending().await
        };
        let outcome = with_guest(guest, None, Some(Duration::ZERO), 1).await.expect("given up");
        assert!(outcome.timed_out && outcome.exit_code == 137, "{outcome:?}");
    }

    #[tokio::test]
    async fn a_machine_that_ends_is_an_error() {
        let guest = |stream: Stream| async move { drop(stream) };
        with_guest(guest, None, None, 1).await.expect_err("the machine ended");
    }

    #[test]
    fn a_process_has_the_containers_settings_unless_others_are_given() {
        let mut record =
            Record::new(MachineId::random(), "web".parse().expect("a name"), MachineSpec::new("x"));
        let env = |value: &str| BTreeMap::from([("A".to_owned(), value.to_owned())]);
        record.process = Process {
            args: vec!["own".to_owned()],
            env: env("1"),
            cwd: "/srv".to_owned(),
            user: "www".to_owned(),
            ..Process::default()
        };
        let command = vec!["true".to_owned()];
        let process = ExecProcess { command: command.clone(), ..ExecProcess::default() }.in_machine(&record);
        assert_eq!((process.args, process.env, process.cwd.as_str()), (command.clone(), env("1"), "/srv"));
        assert_eq!((process.user.as_str(), process.terminal), ("www", None));
        let terminal = Some(TerminalSize { rows: 3, cols: 4 });
        let other = ExecProcess {
            command,
            env: env("2"),
            workdir: Some("/".to_owned()),
            user: Some("root".to_owned()),
            terminal,
            stdin: true,
            privileged: true,
        };
        let process = other.in_machine(&record);
        assert_eq!((process.env["A"].as_str(), process.env["TERM"].as_str()), ("2", "xterm"));
        assert_eq!((process.cwd.as_str(), process.user.as_str(), process.terminal), ("/", "root", terminal));
        assert!(process.stdin && process.privileged);
    }
}
