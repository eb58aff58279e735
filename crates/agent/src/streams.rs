//! A process's standard streams, between its pipes or terminal and the host.

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

use crate::failure::{Context, SystemError};
use crate::outlet::{Inlets, Outlet};
use crate::rootfs;
use crate::watch::{read, watch, write};

/// Bytes taken from a process at once.
const CHUNK: usize = 32 * 1024;
/// Bytes kept of the end of what a program says.
const TAIL: usize = 1024;
/// After the process has ended: silence that means that nothing more comes.
const SILENCE: Duration = Duration::from_millis(100);
/// After the process has ended: how long others may go on writing to its streams.
const PATIENCE: Duration = Duration::from_secs(1);

type File = Arc<AsyncFd<OwnedFd>>;

/// The ends that the process is given.
#[derive(Debug)]
pub(crate) struct Given {
    /// Its terminal, by its name in the container.
    pub(crate) terminal: Option<CString>,
    /// Otherwise: its three streams.
    pub(crate) stdio: Option<[OwnedFd; 3]>,
}

/// The ends that stay here.
#[derive(Debug)]
pub(crate) struct Ours {
    input: Option<File>,
    outputs: Vec<(u8, File)>,
    terminal: Option<File>,
}

/// Makes the streams that a process asks for.
pub(crate) fn make(process: &Process) -> Result<(Given, Ours), SystemError> {
    match process.terminal {
        Some(size) => terminal(size, process.stdin),
        None => pipes(process.stdin),
    }
}

fn terminal(size: TerminalSize, stdin: bool) -> Result<(Given, Ours), SystemError> {
    let (master, name) = rootfs::terminal()?;
    resize(&master, size);
    let master = watched(master)?;
    let input = stdin.then(|| master.clone());
    let ours = Ours { input, outputs: vec![(channel::STDOUT, master.clone())], terminal: Some(master) };
    Ok((Given { terminal: Some(name), stdio: None }, ours))
}

fn pipes(stdin: bool) -> Result<(Given, Ours), SystemError> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).context("make a pipe");
    let (their_input, input) = if stdin {
        let (theirs, ours) = pipe()?;
        (theirs, Some(watched(ours)?))
    } else {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        (null.context("open /dev/null")?, None)
    };
    let (output, their_output) = pipe()?;
    let (error, their_error) = pipe()?;
    let outputs = vec![(channel::STDOUT, watched(output)?), (channel::STDERR, watched(error)?)];
    let given = Given { terminal: None, stdio: Some([their_input, their_output, their_error]) };
    Ok((given, Ours { input, outputs, terminal: None }))
}

fn watched(file: OwnedFd) -> Result<File, SystemError> {
    let interest = Interest::READABLE | Interest::WRITABLE;
    Ok(Arc::new(watch(file, interest).context("watch a stream")?))
}

fn resize(terminal: impl AsFd, size: TerminalSize) {
    let size = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    // A terminal whose other end has gone has no use for a size.
    tcsetwinsize(terminal, size).ok();
}

/// What passes between a process and the host while it runs.
#[derive(Debug)]
pub(crate) struct Streams {
    pumps: Vec<tokio::task::JoinHandle<Option<File>>>,
    ended: watch::Sender<bool>,
    input: tokio::task::JoinHandle<()>,
}

impl Streams {
    /// Begins to move data between a process and whoever is attached to it.
    /// `signal` is called with the signals that the host sends, `given_up` when
    /// the host leaves.
    pub(crate) fn run(
        ours: Ours,
        outlet: &Arc<Outlet>,
        inlets: Inlets,
        signal: impl Fn(i32) + Send + Sync + 'static,
        given_up: impl Fn(bool) + Send + Sync + 'static,
    ) -> Self {
        let ended = watch::Sender::new(false);
        let pumps = ours
            .outputs
            .iter()
            .map(|(channel, file)| {
                tokio::spawn(pump(file.clone(), *channel, outlet.clone(), ended.subscribe()))
            })
            .collect();
        let mut input =
            Stdin { file: ours.input, terminal: ours.terminal, waiting: VecDeque::new(), bytes: 0 };
        let outlet = outlet.clone();
        let input = tokio::spawn(async move { input.follow(inlets, &outlet, signal, given_up).await });
        Self { pumps, ended, input }
    }

    /// The process has ended: sends what it left, and returns when all of it is sent.
    pub(crate) async fn finish(self) {
        self.ended.send_replace(true);
        for pump in self.pumps {
            if let Ok(Some(rest)) = pump.await {
                // Somebody else holds the stream, and must not be stopped by its end.
                tokio::spawn(drain(rest));
            }
        }
        self.input.abort();
    }
}

/// Passes a stream's output on. Gives the stream back when it outlives the process.
async fn pump(
    file: File,
    channel: u8,
    outlet: Arc<Outlet>,
    mut ended: watch::Receiver<bool>,
) -> Option<File> {
    let mut buffer = vec![0; CHUNK];
    let mut patience = None;
    loop {
        let got = if *ended.borrow_and_update() {
            let end = *patience.get_or_insert_with(|| Instant::now() + PATIENCE);
            let silence = end.min(Instant::now() + SILENCE);
            match tokio::time::timeout_at(silence, read(&file, &mut buffer)).await {
                Ok(got) => got,
                Err(_) => return Some(file),
            }
        } else {
            tokio::select! {
                got = read(&file, &mut buffer) => got,
                _ = ended.changed() => continue,
            }
        };
        match got {
            // A terminal that nobody holds open any more fails with EIO.
            Ok(0) | Err(_) => return None,
            Ok(got) => outlet.send(channel, Bytes::copy_from_slice(&buffer[..got])).await,
        }
    }
}

/// The end of what a process says, for who wants to know why it failed.
#[derive(Debug)]
pub(crate) struct Tail {
    said: Arc<Mutex<Vec<u8>>>,
    readers: Vec<tokio::task::JoinHandle<()>>,
}

impl Tail {
    /// Reads what a process says, and keeps the end of it.
    pub(crate) fn of(ours: Ours) -> Self {
        let said: Arc<Mutex<Vec<u8>>> = Arc::default();
        let outputs = ours.outputs.into_iter();
        let readers = outputs.map(|(_, file)| tokio::spawn(keep(file, said.clone()))).collect();
        Self { said, readers }
    }

    /// Its last line, once it has ended. Others may hold its streams open longer.
    pub(crate) async fn last_line(self) -> String {
        let end = Instant::now() + SILENCE;
        for reader in self.readers {
            // What it has read by then is all that counts.
            tokio::time::timeout_at(end, reader).await.ok();
        }
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&said);
        text.trim_end().lines().next_back().unwrap_or_default().trim().to_owned()
    }
}

async fn keep(file: File, said: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = vec![0; TAIL];
    while let Ok(got) = read(&file, &mut buffer).await
        && got > 0
    {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend_from_slice(&buffer[..got]);
        let surplus = said.len().saturating_sub(TAIL);
        said.drain(..surplus);
    }
}

/// Reads a stream to its end, for nobody.
async fn drain(file: File) {
    let mut buffer = vec![0; 4096];
    while matches!(read(&file, &mut buffer).await, Ok(got) if got > 0) {}
}

/// What the host sends to a process.
#[derive(Debug)]
struct Stdin {
    file: Option<File>,
    terminal: Option<File>,
    /// What the process has not taken yet: signals pass by it.
    waiting: VecDeque<Bytes>,
    bytes: usize,
}

impl Stdin {
    /// Takes the input of one attached stream after the other, the newest first.
    async fn follow(
        &mut self,
        mut inlets: Inlets,
        outlet: &Outlet,
        signal: impl Fn(i32),
        given_up: impl Fn(bool),
    ) {
        let mut next = inlets.recv().await;
        while let Some(mut inlet) = next {
            tokio::select! {
                newer = inlets.recv() => {
                    next = newer;
                    continue;
                }
                _ = self.serve(&mut inlet.receiver, &signal) => {}
            }
            if !outlet.ended(&inlet) {
                given_up(self.terminal.is_some());
                self.hang_up();
            }
            drop(inlet);
            next = inlets.recv().await;
        }
    }

    /// Passes everything on until the host leaves. Safe to cancel.
    async fn serve(&mut self, receiver: &mut Receiver, signal: &impl Fn(i32)) -> Result<(), LinkError> {
        loop {
            tokio::select! {
                item = receiver.next(), if self.bytes < WINDOW => match item? {
                    Some(Item::Data { channel: channel::STDIN, bytes }) => self.queue(bytes),
                    Some(Item::Message(json)) => self.obey(&json, signal),
                    Some(Item::Data { .. }) => {}
                    None => break,
                },
                written = advance(&self.file, self.waiting.front()) => self.advanced(written),
            }
        }
        self.queue(Bytes::new());
        while self.file.is_some() && !self.waiting.is_empty() {
            let written = advance(&self.file, self.waiting.front()).await;
            self.advanced(written);
        }
        receiver.given_up().await;
        Err(LinkError::Closed)
    }

    fn queue(&mut self, bytes: Bytes) {
        if self.file.is_some() {
            self.bytes += bytes.len();
            self.waiting.push_back(bytes);
        }
    }

    fn advanced(&mut self, written: io::Result<usize>) {
        let Some(front) = self.waiting.front_mut() else { return };
        match written {
            Ok(written) if written < front.len() => {
                self.bytes -= written;
                drop(front.split_to(written));
            }
            // Nothing at all is the end of the input; a terminal has none but the one that is typed.
            Ok(0) if front.is_empty() && self.terminal.is_none() => self.close(),
            Ok(written) => {
                self.bytes -= written;
                self.waiting.pop_front();
            }
            // The reader has gone.
            Err(_) => self.close(),
        }
    }

    /// Nobody is there to type: that ends an input, but not a terminal's, which
    /// the next may take up.
    fn hang_up(&mut self) {
        if self.terminal.is_none() {
            self.close();
        }
    }

    fn close(&mut self) {
        self.file = None;
        self.waiting.clear();
        self.bytes = 0;
    }

    fn obey(&self, json: &[u8], signal: &impl Fn(i32)) {
        match serde_json::from_slice(json) {
            Ok(Input::Resize(size)) => {
                if let Some(terminal) = &self.terminal {
                    resize(terminal.get_ref(), size);
                }
            }
            Ok(Input::Signal { signal: number }) => signal(number),
            // A host newer than this agent.
            Err(_) => {}
        }
    }
}

/// Writes the front of the queue; never returns when there is nothing to write.
async fn advance(file: &Option<File>, front: Option<&Bytes>) -> io::Result<usize> {
    match (file, front) {
        (_, Some(bytes)) if bytes.is_empty() => Ok(0),
        (Some(file), Some(bytes)) => write(file, bytes).await,
        _ => std::future::pending().await,
    }
}
