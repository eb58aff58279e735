//! A running QEMU process.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr};
use tokio::sync::mpsc;

use super::FIRMWARE;
use super::arguments::{TAP_FD, hostfwd};
use super::checkpoint::{self, QemuFiles};
use super::diagnose;
use super::memory::{self, Backing};
use super::qmp::Qmp;
use crate::{
    CheckpointHook, Diagnostic, Disk, DiskError, Forward, GuestMemory, Instance, LaunchSpec, Network,
    OperationError, RestoreError, UserNetwork, VmExit, VmProcess,
};

/// Time between polls for the end of a load, which takes 3 ms.
const LOAD_POLL_INTERVAL: Duration = Duration::from_micros(500);

/// Bytes of QEMU's standard error to keep.
const STDERR_TAIL_BYTES: usize = 8192;

#[derive(Debug)]
pub(super) struct QemuInstance {
    child: Child,
    pid: u32,
    stderr: Option<ChildStderr>,
    stderr_tail: Vec<u8>,
    link: Option<UnixStream>,
    qmp: Qmp,
    backing: Backing,
    /// The files of the disks, in order.
    disks: Vec<PathBuf>,
    /// The disk error for which QEMU was killed.
    fatal_disk_error: Option<DiskError>,
    exit: Option<VmExit>,
}

impl QemuInstance {
    pub(super) fn new(
        mut child: Child,
        link: UnixStream,
        qmp: Qmp,
        spec: &LaunchSpec,
        backing: Backing,
    ) -> Self {
        let stderr = child.stderr.take();
        // A child process that has not been reaped has an id.
        let pid = child.id().unwrap_or_default();
        let disks = spec.disks.iter().map(|disk| disk.path.clone()).collect();
        Self {
            child,
            pid,
            stderr,
            stderr_tail: Vec::new(),
            link: Some(link),
            qmp,
            backing,
            disks,
            fatal_disk_error: None,
            exit: None,
        }
    }

    /// Sets a disk's size to that of its file: a restored process still has the size of the stencil's disk.
    pub(super) async fn resize_disk(&self, disk: &Disk) -> Result<(), OperationError> {
        let size = std::fs::metadata(&disk.path).map(|file| file.len()).unwrap_or_default();
        self.qmp.call("block_resize", json!({ "device": disk.serial, "size": size })).await.map(drop)
    }

    /// Connects the NIC to a network.
    pub(super) async fn connect_network(&self, network: &Network) -> Result<(), OperationError> {
        let net = match network {
            Network::Unplugged { .. } => return Ok(()),
            Network::User(user) => user_network(user),
            Network::Tap(_) => {
                json!({ "type": "tap", "id": "net", "fd": TAP_FD.to_string(), "vhost": false })
            }
        };
        self.qmp.call("netdev_add", net).await?;
        let uplink = json!({ "type": "hubport", "id": "uplink", "hubid": 0, "netdev": "net" });
        self.qmp.call("netdev_add", uplink).await.map(drop)
    }

    /// Disconnects the NIC from its network, if it has one.
    async fn disconnect_network(&self) -> Result<(), OperationError> {
        for id in ["uplink", "net"] {
            match self.qmp.call("netdev_del", json!({ "id": id })).await {
                Ok(_) | Err(OperationError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The error of a restore. If QEMU has exited, it says why.
    pub(super) async fn restore_error(&mut self, error: OperationError) -> RestoreError {
        match error {
            OperationError::Gone => self.wait().await.during_restore(),
            error => error.into(),
        }
    }

    /// Waits until the saved state is loaded.
    pub(super) async fn wait_until_loaded(&mut self) -> Result<(), RestoreError> {
        loop {
            match self.qmp.call("query-status", json!({})).await {
                Ok(status) if status["status"] == "inmigrate" => tokio::time::sleep(LOAD_POLL_INTERVAL).await,
                Ok(_) => return Ok(()),
                Err(error) => return Err(self.restore_error(error).await),
            }
        }
    }

    /// Waits until QEMU closes its standard error. Kills it at a disk error that nothing else handles: its guest
    /// would be paused for ever.
    async fn read_until_exit(&mut self) {
        let mut stderr = std::pin::pin!(read_stderr(&mut self.stderr, &mut self.stderr_tail));
        let Some(disk_errors) = &mut self.qmp.disk_errors else { return stderr.await };
        tokio::select! {
            () = &mut stderr => {}
            Some(error) = disk_errors.recv() => {
                self.fatal_disk_error = Some(error);
                // This fails only if the process has been reaped already.
                self.child.start_kill().ok();
                stderr.await;
            }
        }
    }

    /// QEMU's messages, or the error for which it was killed.
    fn last_message(&self) -> String {
        match &self.fatal_disk_error {
            Some(error) => error.to_string(),
            None => format_stderr(&self.stderr_tail),
        }
    }
}

/// Collects QEMU's messages until it closes its standard error.
async fn read_stderr(stderr: &mut Option<ChildStderr>, tail: &mut Vec<u8>) {
    let Some(open) = stderr else { return };
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = open.read(&mut buffer).await {
        tail.extend_from_slice(&buffer[..count]);
        let excess = tail.len().saturating_sub(STDERR_TAIL_BYTES);
        tail.drain(..excess);
    }
    *stderr = None;
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

    async fn version(&self) -> Result<String, OperationError> {
        let answer = self.qmp.call("query-version", json!({})).await?;
        let number = |name: &str| answer["qemu"][name].as_u64().unwrap_or_default();
        let package = answer["package"].as_str().unwrap_or_default();
        Ok(format!("{}.{}.{} {package}", number("major"), number("minor"), number("micro")).trim().to_owned())
    }

    fn memory(&self) -> Result<GuestMemory, OperationError> {
        memory::find_memory(self.pid, &self.backing)
            .map_err(|source| OperationError::Memory { pid: self.pid, source })
    }

    async fn save_devices(&mut self, file: &Path) -> Result<(), OperationError> {
        // Named after its first user, Xen, but independent of it. Unlike `migrate` it neither copies memory
        // nor hands over the disks.
        let arguments = json!({ "filename": file, "live": true });
        self.qmp.call("xen-save-devices-state", arguments).await.map(drop)
    }

    async fn checkpoint(&mut self, dir: &Path, hook: CheckpointHook) -> Result<(), OperationError> {
        // Connections belong to this process, and are useless to a restored one.
        self.disconnect_network().await?;
        let Backing::File(memory) = &self.backing else {
            return Err(OperationError::Unsupported {
                driver: "qemu",
                operation: "checkpoint the process of a machine that was booted",
            });
        };
        let files = QemuFiles { memory: memory.clone(), disks: self.disks.clone() };
        checkpoint::checkpoint(self.pid, files, dir, hook).await
    }

    async fn add_layer(&mut self, disk: &str, layer: &Path) -> Result<(), OperationError> {
        let arguments =
            json!({ "device": disk, "snapshot-file": layer, "format": "qcow2", "mode": "existing" });
        self.qmp.call("blockdev-snapshot-sync", arguments).await.map(drop)
    }

    async fn publish(&mut self, forward: &Forward, guest: Ipv4Addr) -> Result<(), OperationError> {
        let line = format!("hostfwd_add net {}", hostfwd(forward, guest));
        let output = self.qmp.call("human-monitor-command", json!({ "command-line": line })).await?;
        // The human monitor prints nothing on success.
        match output.as_str().unwrap_or_default().trim() {
            "" => Ok(()),
            message => Err(OperationError::Refused {
                command: format!("to publish {forward}"),
                message: message.to_owned(),
            }),
        }
    }

    async fn unpublish(&mut self, forward: &Forward) -> Result<(), OperationError> {
        let Forward { protocol, host_ip, host_port, .. } = forward;
        let line = format!("hostfwd_remove net {protocol}:{host_ip}:{host_port}");
        let output = self.qmp.call("human-monitor-command", json!({ "command-line": line })).await?;
        // The human monitor prints "host forwarding rule for … removed", or "… not found".
        match output.as_str().unwrap_or_default().trim() {
            message if message.ends_with("not found") => {
                let command = format!("to withdraw {forward}");
                Err(OperationError::Refused { command, message: message.to_owned() })
            }
            _ => Ok(()),
        }
    }

    async fn diagnose(&mut self) -> Vec<Diagnostic> {
        diagnose::diagnose(&self.qmp).await
    }

    async fn wait(&mut self) -> VmExit {
        if let Some(exit) = &self.exit {
            return exit.clone();
        }
        self.read_until_exit().await;
        let status = self.child.wait().await;
        let exit = match status {
            Ok(status) if status.success() => VmExit::Off,
            Ok(status) => VmExit::Failed { status: status.to_string(), stderr: self.last_message() },
            Err(error) => VmExit::Failed { status: error.to_string(), stderr: self.last_message() },
        };
        self.exit = Some(exit.clone());
        exit
    }

    fn take_disk_errors(&mut self) -> Option<mpsc::Receiver<DiskError>> {
        self.qmp.disk_errors.take()
    }

    async fn kill(&mut self) {
        if self.exit.is_none() {
            // This fails only if the process has been reaped already.
            self.child.start_kill().ok();
            self.wait().await;
        }
    }
}

fn user_network(network: &UserNetwork) -> serde_json::Value {
    let UserNetwork { network, prefix, gateway, guest, dns, forwards, .. } = network;
    let net = format!("{network}/{prefix}");
    let forwards = forwards.iter().map(|forward| json!({ "str": hostfwd(forward, *guest) }));
    let forwards: Vec<_> = forwards.collect();
    json!({ "type": "user", "id": "net", "ipv6": false, "net": net, "host": gateway,
            "dhcpstart": guest, "dns": dns, "hostfwd": forwards })
}

/// QEMU's message for firmware that is in none of its data directories.
const NO_FIRMWARE_TEXT: &str = "could not load PC BIOS";

/// QEMU's messages, without its name before each line.
fn format_stderr(stderr_tail: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr_tail);
    if text.contains(NO_FIRMWARE_TEXT) {
        return format!(
            "cannot load the firmware {FIRMWARE}: it is in none of QEMU's data directories; \
             `mimeo setup preflight` says how to install it"
        );
    }
    let lines = text.lines().map(|line| line.strip_prefix("qemu-system-x86_64: ").unwrap_or(line).trim());
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}
