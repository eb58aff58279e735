//! Runs processes in machines, for tests.

use std::time::Duration;

use bytes::Bytes;
use mimeo_agent_protocol::link::{Item, Stream};
use mimeo_agent_protocol::message::{ExitStatus, Failure, Input, Process, Reply, Request, channel};

use super::{TIMEOUT, Vm};

/// A process with these arguments.
pub fn command(args: &[&str]) -> Process {
    Process {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        cwd: "/".into(),
        ..Process::default()
    }
}

/// A process that runs a script.
pub fn shell(script: &str) -> Process {
    command(&["sh", "-c", script])
}

/// The output and the exit status of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    pub status: ExitStatus,
}

/// A running process.
pub struct Running {
    pub stream: Stream,
    pub pid: u32,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Vm {
    pub async fn start(&self, process: Process) -> Running {
        self.begin(Request::Start(process))
            .await
            .unwrap_or_else(|failure| panic!("{failure}\n{}", self.console()))
    }

    pub async fn exec(&self, process: Process) -> Result<Running, Failure> {
        self.begin(Request::Exec(process)).await
    }

    pub(super) async fn begin(&self, request: Request) -> Result<Running, Failure> {
        let mut stream = self.open(&request);
        let answer = tokio::time::timeout(TIMEOUT, stream.receiver.message::<Reply>()).await;
        match answer.unwrap_or_else(|_| panic!("no reply to {request:?}\n{}", self.console())) {
            Ok(Reply::Started { pid }) => Ok(Running { stream, pid, stdout: vec![], stderr: vec![] }),
            Ok(Reply::Failed(failure)) => Err(failure),
            other => panic!("{request:?}: {other:?}\n{}", self.console()),
        }
    }

    /// Runs a process to its end.
    pub async fn run(&self, process: Process) -> Output {
        self.exec(process).await.unwrap_or_else(|failure| panic!("{failure}")).output().await
    }

    /// Runs a script, and returns its output.
    pub async fn sh(&self, script: &str) -> String {
        let output = self.run(shell(script)).await;
        assert_eq!(output.status, ExitStatus::Code(0), "{script}: {output:?}");
        output.stdout
    }

    /// Starts a process that must fail to start, and returns the failure.
    pub async fn refusal(&self, process: Process) -> Failure {
        match self.exec(process.clone()).await {
            Err(failure) => failure,
            Ok(_) => panic!("{process:?} runs"),
        }
    }
}

impl Running {
    pub async fn input(&self, bytes: &[u8]) {
        self.stream.sender.data(channel::STDIN, Bytes::copy_from_slice(bytes)).await.expect("takes input");
    }

    pub fn send(&self, input: Input) {
        self.stream.sender.message(&input);
    }

    /// Waits until the process ends.
    pub async fn output(mut self) -> Output {
        let status = loop {
            if let Some(status) = self.step().await {
                break status;
            }
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Output { stdout: text(&self.stdout), stderr: text(&self.stderr), status }
    }

    /// The standard output so far.
    pub fn output_so_far(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Waits until the standard output contains `text`.
    pub async fn wait_for_output(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.stdout).contains(text) {
            let ended = self.step().await;
            assert_eq!(ended, None, "{:?}", String::from_utf8_lossy(&self.stdout));
        }
    }

    /// Receives the next item; returns the exit status when that is it.
    pub async fn step(&mut self) -> Option<ExitStatus> {
        let item = tokio::time::timeout(TIMEOUT, self.stream.receiver.next()).await;
        let seen = String::from_utf8_lossy(&self.stdout).into_owned();
        match item.unwrap_or_else(|_| panic!("no item after {seen:?}")) {
            Ok(Some(Item::Data { channel: channel::STDOUT, bytes })) => self.stdout.extend_from_slice(&bytes),
            Ok(Some(Item::Data { bytes, .. })) => self.stderr.extend_from_slice(&bytes),
            Ok(Some(Item::Message(json))) => match serde_json::from_slice(&json) {
                Ok(Reply::Exited { status }) => return Some(status),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?} after {seen:?}"),
        }
        None
    }
}

/// Sleeps long enough for a process to make progress.
pub async fn pause_briefly() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}
