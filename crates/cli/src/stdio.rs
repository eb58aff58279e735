//! Forwards mimeo's standard streams, signals and terminal size to a process in a machine.

use bytes::Bytes;
use mimeo_agent_protocol::link::LinkError;
use mimeo_agent_protocol::message::{Failure, Input, TerminalSize};
use mimeo_engine::Attachment;
use tokio::io::{AsyncReadExt, AsyncWriteExt, stderr, stdin, stdout};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::backend::{ProcessInput, ProcessItem, ProcessOutput, ProcessStream, RemoteError};
use crate::detach_keys::{DetachKeys, Detector};
use crate::error::CliError;
use crate::interruption::interruption;
use crate::output;

/// Bytes per read.
const CHUNK_BYTES: usize = 32 * 1024;

/// Which of the container's output streams are written to this process's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutputStreams {
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

impl Default for OutputStreams {
    fn default() -> Self {
        Self { stdout: true, stderr: true }
    }
}

impl OutputStreams {
    /// Whether no output is written.
    pub(crate) fn is_empty(self) -> bool {
        !self.stdout && !self.stderr
    }
}

/// Attaches this process's streams to a machine in the foreground.
pub(crate) fn attachment(
    interactive: bool,
    output: OutputStreams,
    size: Option<watch::Receiver<TerminalSize>>,
) -> Attachment {
    Attachment {
        client: None,
        stdin: interactive.then(|| Box::new(stdin()) as _),
        stdout: output.stdout.then(|| Box::new(stdout()) as _),
        stderr: output.stderr.then(|| Box::new(stderr()) as _),
        size,
        ..Attachment::default()
    }
}

/// podman's exit code for output that cannot be written.
const OUTPUT_FAILED: i32 = 126;

/// Prints that a container's output could not be written to our streams. The code is the container's, but not 0:
/// output is missing.
pub(crate) fn exit_code_with_failed_output(code: i32, failure: Option<std::io::Error>) -> i32 {
    let Some(source) = failure else { return code };
    output::error(&CliError::io("write the container's output, some of which is lost", source));
    if code == 0 { OUTPUT_FAILED } else { code }
}

/// The signal for a process whose output cannot be written any more.
const SIGPIPE: i32 = 13;

/// This process's end of a process in a machine.
#[derive(Debug, Default)]
pub(crate) struct ClientStreams {
    /// Forward standard input.
    pub(crate) interactive: bool,
    /// Forward the terminal's sizes.
    pub(crate) size: Option<watch::Receiver<TerminalSize>>,
    /// The keys that detach.
    pub(crate) detach_keys: DetachKeys,
    /// Do not forward signals to the process.
    pub(crate) keep_signals: bool,
    /// Other clients may read the output, too: if ours is closed, this one detaches, and the process runs on.
    pub(crate) shares_output: bool,
    /// The output that is forwarded.
    pub(crate) output: OutputStreams,
}

/// How forwarding ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientEnd {
    /// The process has exited with this exit code.
    Exited(i32),
    /// A second signal, or one that is not forwarded, ends mimeo, with this exit code.
    Interrupted(i32),
    /// The user has typed the keys that detach.
    Detached,
}

/// Why forwarding ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The connection was lost: most often the machine has ended.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The supervisor has detached this client.
    #[error(transparent)]
    Detached(#[from] Failure),
    /// The connection to a manager was lost, or it has detached this client.
    #[error(transparent)]
    Remote(RemoteError),
}

/// Forwards this process's streams to a process in a machine until that exits or the user detaches. The first
/// termination signal is forwarded to the process; a second one ends mimeo.
pub(crate) async fn forward_until_exit(
    stream: ProcessStream,
    streams: ClientStreams,
) -> Result<ClientEnd, ClientError> {
    let ProcessStream { input: sender, output: receiver } = stream;
    let sender = &*sender;
    let ClientStreams { interactive, size, detach_keys, keep_signals, shares_output, output } = streams;
    let input = async {
        let stdin = async {
            if interactive && forward_stdin(sender, Detector::new(detach_keys)).await {
                return;
            }
            std::future::pending().await
        };
        tokio::select! {
            () = stdin => ClientEnd::Detached,
            never = forward_resizes(size, sender) => never,
        }
    };
    let signals = async {
        if keep_signals {
            return interruption().await;
        }
        forward_signals(sender).await
    };
    tokio::select! {
        end = forward_output(receiver, sender, output, shares_output) => end,
        signal = signals => Ok(ClientEnd::Interrupted(128 + signal)),
        end = input => Ok(end),
    }
}

/// Forwards output until the process has exited; returns its exit code. If our output is closed, the process gets
/// SIGPIPE, as it would from a pipe. Other errors are not its own: it runs on, and its output is lost.
async fn forward_output(
    mut receiver: Box<dyn ProcessOutput>,
    sender: &dyn ProcessInput,
    output: OutputStreams,
    shares_output: bool,
) -> Result<ClientEnd, ClientError> {
    let mut failure = None;
    loop {
        let written = match receiver.next().await? {
            ProcessItem::Stderr(bytes) if output.stderr => write_flushed(stderr(), &bytes).await,
            ProcessItem::Stdout(bytes) if output.stdout => write_flushed(stdout(), &bytes).await,
            ProcessItem::Stderr(_) | ProcessItem::Stdout(_) => continue,
            ProcessItem::Exited(code) => {
                return Ok(ClientEnd::Exited(exit_code_with_failed_output(code, failure)));
            }
        };
        match written {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                if shares_output {
                    return Ok(ClientEnd::Detached);
                }
                sender.send(Input::Signal { signal: SIGPIPE }).await;
            }
            Err(error) => failure = failure.or(Some(error)),
            Ok(()) => {}
        }
    }
}

async fn write_flushed<W: AsyncWriteExt + Unpin>(mut to: W, bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Forwards the first termination signal; returns at the second.
async fn forward_signals(sender: &dyn ProcessInput) -> i32 {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
    let (signals, mut received) = mpsc::channel(4);
    for kind in kinds {
        // A signal without a handler keeps its default action: it ends mimeo.
        let Ok(mut stream) = signal(kind) else { continue };
        let signals = signals.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() && signals.send(kind.as_raw_value()).await.is_ok() {}
        });
    }
    if let Some(signal) = received.recv().await {
        sender.send(Input::Signal { signal }).await;
    }
    match received.recv().await {
        Some(signal) => signal,
        None => std::future::pending().await,
    }
}

/// Forwards standard input until its end, or until the keys that detach are typed: then it returns `true`.
async fn forward_stdin(sender: &dyn ProcessInput, mut detector: Detector) -> bool {
    let mut from = stdin();
    let mut buffer = vec![0; CHUNK_BYTES];
    // A read error ends the input, and so does a process that has exited.
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let (passed, detached) = detector.filter(&buffer[..count]);
        // Empty data would be the end of the input.
        if !passed.is_empty() && sender.write(Bytes::from(passed)).await.is_err() {
            return false;
        }
        if detached {
            return true;
        }
    }
    let held = detector.into_held();
    if !held.is_empty() {
        // The process may have exited.
        sender.write(Bytes::from(held)).await.ok();
    }
    // End of input. This fails only if the process has exited.
    sender.write(Bytes::new()).await.ok();
    false
}

/// Forwards the terminal's sizes. Never returns.
async fn forward_resizes<T>(size: Option<watch::Receiver<TerminalSize>>, sender: &dyn ProcessInput) -> T {
    if let Some(mut size) = size {
        loop {
            let now = *size.borrow_and_update();
            sender.send(Input::Resize(now)).await;
            if size.changed().await.is_err() {
                break;
            }
        }
    }
    std::future::pending().await
}
