//! A QEMU process that runs.

use async_trait::async_trait;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr};

use super::qmp::Qmp;
use crate::{Instance, OperationError, VmExit, VmProcess};

/// Bytes of QEMU's messages that are kept.
const MAX_STDERR: usize = 8192;

#[derive(Debug)]
pub(super) struct QemuInstance {
    child: Child,
    pid: u32,
    stderr: Option<ChildStderr>,
    said: Vec<u8>,
    link: Option<UnixStream>,
    qmp: Qmp,
    exit: Option<VmExit>,
}

impl QemuInstance {
    pub(super) fn new(mut child: Child, link: UnixStream, qmp: Qmp) -> Self {
        let stderr = child.stderr.take();
        // A child that has not been waited for has an id.
        let pid = child.id().unwrap_or_default();
        Self { child, pid, stderr, said: Vec::new(), link: Some(link), qmp, exit: None }
    }

    /// Gathers what QEMU says until it closes its standard error.
    async fn listen(&mut self) {
        let Some(stderr) = &mut self.stderr else { return };
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
            self.said.extend_from_slice(&buffer[..count]);
            let excess = self.said.len().saturating_sub(MAX_STDERR);
            self.said.drain(..excess);
        }
        self.stderr = None;
    }
}

#[async_trait]
impl Instance for QemuInstance {
    fn process(&self) -> VmProcess {
        VmProcess { pid: self.pid }
    }

    fn take_link(&mut self) -> Result<UnixStream, OperationError> {
        self.link.take().ok_or(OperationError::LinkTaken)
    }

    async fn pause(&mut self) -> Result<(), OperationError> {
        self.qmp.call("stop", json!({})).await.map(drop)
    }

    async fn resume(&mut self) -> Result<(), OperationError> {
        self.qmp.call("cont", json!({})).await.map(drop)
    }

    async fn wait(&mut self) -> VmExit {
        if let Some(exit) = &self.exit {
            return exit.clone();
        }
        self.listen().await;
        let status = self.child.wait().await;
        let exit = match status {
            Ok(status) if status.success() => VmExit::Off,
            Ok(status) => VmExit::Failed { status: status.to_string(), stderr: message(&self.said) },
            Err(error) => VmExit::Failed { status: error.to_string(), stderr: message(&self.said) },
        };
        self.exit = Some(exit.clone());
        exit
    }

    async fn kill(&mut self) {
        if self.exit.is_none() {
            // A child that is gone already is what is wanted.
            self.child.start_kill().ok();
            self.wait().await;
        }
    }
}

/// What QEMU said, its own name before each line taken off.
fn message(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let lines = text.lines().map(|line| line.strip_prefix("qemu-system-x86_64: ").unwrap_or(line).trim());
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}
