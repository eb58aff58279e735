//! Moves a process's standard streams between its pipes or terminal and the host.

use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mimeo_agent_protocol::link::{Item, LinkError, Receiver, WINDOW};
use mimeo_agent_protocol::message::{Input, Process, TerminalSize, channel};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::attachment::{Attachment, Inputs};
use crate::failure::{Context, SystemError};
use crate::rootfs;
use crate::watch::{read, watch, write};

/// Bytes to read from a process at once.
const CHUNK_BYTES: usize = 32 * 1024;
/// Bytes to keep of the end of a program's output.
const TAIL_BYTES: usize = 1024;
/// After the process has ended: its output is complete when none came for this long.
const DRAIN_IDLE_TIMEOUT: Duration = Duration::from_millis(100);
/// After the process has ended: how long output of other processes that hold its streams is read.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

type File = Arc<AsyncFd<OwnedFd>>;

/// The process's ends of its streams.
#[derive(Debug)]
pub(crate) struct ProcessEnds {
    /// Its terminal, by its name in the container.
    pub(crate) terminal: Option<CString>,
    /// Without a terminal: its three standard streams.
    pub(crate) stdio: Option<[OwnedFd; 3]>,
}

/// The agent's ends of a process's streams.
#[derive(Debug)]
pub(crate) struct AgentEnds {
    input: Option<File>,
    outputs: Vec<(u8, File)>,
    terminal: Option<File>,
}

impl AgentEnds {
    /// Those of a process that has none of its streams from the agent.
    pub(crate) fn none() -> Self {
        Self { input: None, outputs: Vec::new(), terminal: None }
    }
}

/// Creates the streams of a process: a terminal or pipes.
pub(crate) fn create(process: &Process) -> Result<(ProcessEnds, AgentEnds), SystemError> {
    match process.terminal {
        Some(size) => create_terminal(size, process.stdin),
        None => create_pipes(process.stdin),
    }
}

fn create_terminal(size: TerminalSize, stdin: bool) -> Result<(ProcessEnds, AgentEnds), SystemError> {
    let (master, name) = rootfs::open_terminal()?;
    resize(&master, size);
    let master = watched_file(master)?;
    let input = stdin.then(|| master.clone());
    let agent_ends =
        AgentEnds { input, outputs: vec![(channel::STDOUT, master.clone())], terminal: Some(master) };
    Ok((ProcessEnds { terminal: Some(name), stdio: None }, agent_ends))
}

fn create_pipes(stdin: bool) -> Result<(ProcessEnds, AgentEnds), SystemError> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).context("create a pipe");
    let (their_input, input) = if stdin {
        let (theirs, ours) = pipe()?;
        (theirs, Some(watched_file(ours)?))
    } else {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        (null.context("open /dev/null")?, None)
    };
    let (output, their_output) = pipe()?;
    let (error, their_error) = pipe()?;
    let outputs = vec![(channel::STDOUT, watched_file(output)?), (channel::STDERR, watched_file(error)?)];
    let process_ends = ProcessEnds { terminal: None, stdio: Some([their_input, their_output, their_error]) };
    Ok((process_ends, AgentEnds { input, outputs, terminal: None }))
}

fn watched_file(file: OwnedFd) -> Result<File, SystemError> {
    let interest = Interest::READABLE | Interest::WRITABLE;
    Ok(Arc::new(watch(file, interest).context("watch a stream")?))
}

fn resize(terminal: impl AsFd, size: TerminalSize) {
    let size = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    // Fails when the terminal's other end is closed, and then its size does not matter.
    tcsetwinsize(terminal, size).ok();
}

/// The tasks that move a process's streams.
#[derive(Debug)]
pub(crate) struct Streams {
    pumps: Vec<tokio::task::JoinHandle<Option<File>>>,
    process_ended: watch::Sender<bool>,
    input: tokio::task::JoinHandle<()>,
}

impl Streams {
    /// Starts to move data between a process and the attached stream. `signal` is
    /// called with the signals that the host sends, `on_host_gone` when the host
    /// detaches, with whether the process has a terminal.
    pub(crate) fn run(
        agent_ends: AgentEnds,
        attachment: &Arc<Attachment>,
        inputs: Inputs,
        signal: impl Fn(i32) + Send + Sync + 'static,
        on_host_gone: impl Fn(bool) + Send + Sync + 'static,
    ) -> Self {
        let process_ended = watch::Sender::new(false);
        let pumps = agent_ends
            .outputs
            .iter()
            .map(|(channel, file)| {
                tokio::spawn(pump(file.clone(), *channel, attachment.clone(), process_ended.subscribe()))
            })
            .collect();
        let mut input = Stdin {
            file: agent_ends.input,
            terminal: agent_ends.terminal,
            pending: VecDeque::new(),
            pending_bytes: 0,
        };
        let attachment = attachment.clone();
        let input =
            tokio::spawn(
                async move { input.follow_attached(inputs, &attachment, signal, on_host_gone).await },
            );
        Self { pumps, process_ended, input }
    }

    /// Sends the remaining output of a process that has ended.
    pub(crate) async fn finish(self) {
        self.process_ended.send_replace(true);
        for pump in self.pumps {
            if let Ok(Some(file)) = pump.await {
                // Another process holds the stream, and must be able to go on writing.
                tokio::spawn(drain(file));
            }
        }
        self.input.abort();
    }
}

/// Forwards a stream's output. Returns the stream when it outlives the process.
async fn pump(
    file: File,
    channel: u8,
    attachment: Arc<Attachment>,
    mut process_ended: watch::Receiver<bool>,
) -> Option<File> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut drain_end = None;
    loop {
        let length = if *process_ended.borrow_and_update() {
            let end = *drain_end.get_or_insert_with(|| Instant::now() + DRAIN_TIMEOUT);
            let idle_end = end.min(Instant::now() + DRAIN_IDLE_TIMEOUT);
            match tokio::time::timeout_at(idle_end, read(&file, &mut buffer)).await {
                Ok(length) => length,
                Err(_) => return Some(file),
            }
        } else {
            tokio::select! {
                length = read(&file, &mut buffer) => length,
                _ = process_ended.changed() => continue,
            }
        };
        match length {
            // A terminal that no process holds open fails with EIO.
            Ok(0) | Err(_) => return None,
            Ok(length) => attachment.send(channel, Bytes::copy_from_slice(&buffer[..length])).await,
        }
    }
}

/// The end of a process's output, which explains its failure.
#[derive(Debug)]
pub(crate) struct OutputTail {
    tail: Arc<Mutex<Vec<u8>>>,
    readers: Vec<tokio::task::JoinHandle<()>>,
}

impl OutputTail {
    /// Starts to read a process's output, and keeps its end.
    pub(crate) fn read(agent_ends: AgentEnds) -> Self {
        let tail: Arc<Mutex<Vec<u8>>> = Arc::default();
        let outputs = agent_ends.outputs.into_iter();
        let readers = outputs.map(|(_, file)| tokio::spawn(append_to_tail(file, tail.clone()))).collect();
        Self { tail, readers }
    }

    /// The last line of a process that has ended. Other processes may hold its streams open longer.
    pub(crate) async fn last_line(self) -> String {
        let end = Instant::now() + DRAIN_IDLE_TIMEOUT;
        for reader in self.readers {
            // On a timeout the line is taken from the output so far.
            tokio::time::timeout_at(end, reader).await.ok();
        }
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&tail);
        text.trim_end().lines().next_back().unwrap_or_default().trim().to_owned()
    }
}

async fn append_to_tail(file: File, tail: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = vec![0; TAIL_BYTES];
    while let Ok(length) = read(&file, &mut buffer).await
        && length > 0
    {
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(&buffer[..length]);
        let surplus = tail.len().saturating_sub(TAIL_BYTES);
        tail.drain(..surplus);
    }
}

/// Reads a stream to its end and discards the data.
async fn drain(file: File) {
    let mut buffer = vec![0; 4096];
    while matches!(read(&file, &mut buffer).await, Ok(length) if length > 0) {}
}

/// The input of a process.
#[derive(Debug)]
struct Stdin {
    file: Option<File>,
    terminal: Option<File>,
    /// Input that the process has not read yet. Signals overtake it.
    pending: VecDeque<Bytes>,
    pending_bytes: usize,
}

impl Stdin {
    /// Forwards the input of the newest attached stream.
    async fn follow_attached(
        &mut self,
        mut inputs: Inputs,
        attachment: &Attachment,
        signal: impl Fn(i32),
        on_host_gone: impl Fn(bool),
    ) {
        let mut next = inputs.recv().await;
        while let Some(mut input) = next {
            tokio::select! {
                newer = inputs.recv() => {
                    next = newer;
                    continue;
                }
                _ = self.forward_input(&mut input.receiver, &signal) => {}
            }
            if !attachment.input_ended(&input) {
                on_host_gone(self.terminal.is_some());
                self.close_unless_terminal();
            }
            drop(input);
            next = inputs.recv().await;
        }
    }

    /// Forwards input and signals until the host detaches. Cancel-safe.
    async fn forward_input(
        &mut self,
        receiver: &mut Receiver,
        signal: &impl Fn(i32),
    ) -> Result<(), LinkError> {
        loop {
            tokio::select! {
                item = receiver.next(), if self.pending_bytes < WINDOW => match item? {
                    Some(Item::Data { channel: channel::STDIN, bytes }) => self.queue(bytes),
                    Some(Item::Message(json)) => self.handle_message(&json, signal),
                    Some(Item::Data { .. }) => {}
                    None => break,
                },
                written = write_front(&self.file, self.pending.front()) => self.record_written(written),
            }
        }
        self.queue(Bytes::new());
        while self.file.is_some() && !self.pending.is_empty() {
            let written = write_front(&self.file, self.pending.front()).await;
            self.record_written(written);
        }
        receiver.wait_for_reset().await;
        Err(LinkError::Closed)
    }

    fn queue(&mut self, bytes: Bytes) {
        if self.file.is_some() {
            self.pending_bytes += bytes.len();
            self.pending.push_back(bytes);
        }
    }

    fn record_written(&mut self, written: io::Result<usize>) {
        let Some(front) = self.pending.front_mut() else { return };
        match written {
            Ok(written) if written < front.len() => {
                self.pending_bytes -= written;
                drop(front.split_to(written));
            }
            // No bytes mean the end of the input. A terminal has no end but a typed Ctrl-D.
            Ok(0) if front.is_empty() && self.terminal.is_none() => self.close(),
            Ok(written) => {
                self.pending_bytes -= written;
                self.pending.pop_front();
            }
            // The reader has closed its end.
            Err(_) => self.close(),
        }
    }

    /// Closes the input after the host has detached, but not a terminal's: the
    /// next stream may use it.
    fn close_unless_terminal(&mut self) {
        if self.terminal.is_none() {
            self.close();
        }
    }

    fn close(&mut self) {
        self.file = None;
        self.pending.clear();
        self.pending_bytes = 0;
    }

    fn handle_message(&self, json: &[u8], signal: &impl Fn(i32)) {
        match serde_json::from_slice(json) {
            Ok(Input::Resize(size)) => {
                if let Some(terminal) = &self.terminal {
                    resize(terminal.get_ref(), size);
                }
            }
            Ok(Input::Signal { signal: number }) => signal(number),
            // The host is newer than this agent and sent a message that it does not know.
            Err(_) => {}
        }
    }
}

/// Writes the front of the queue. Never returns when there is nothing to write.
async fn write_front(file: &Option<File>, front: Option<&Bytes>) -> io::Result<usize> {
    match (file, front) {
        (_, Some(bytes)) if bytes.is_empty() => Ok(0),
        (Some(file), Some(bytes)) => write(file, bytes).await,
        _ => std::future::pending().await,
    }
}
