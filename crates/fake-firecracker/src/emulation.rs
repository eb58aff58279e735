//! A real guest for hosts without KVM: QEMU's TCG runs it, behind the same API. So the layers above the
//! driver can be tested as a whole.
//!
//! Its link is a serial port, since QEMU has no vsock that can be migrated: connections to the vsock's socket
//! are forwarded to it.

mod arguments;
mod qmp;

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use serde_json::json;

use crate::schema::{BootSource, Drive, NetworkInterface};
use arguments::{PORT, QMP_FD, STATE_FD, TAP_FD};
use qmp::Qmp;

/// The file of the running guest's memory.
const MEMORY: &str = "fake.memory";
/// The file of its memory at the last save, until it is unlinked.
const LAST_SAVE: &str = "fake.last";
const PAGE: usize = 4096;
const RESTORE_TIMEOUT: Duration = Duration::from_secs(20);

/// The virtual hardware.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hardware<'a> {
    pub(crate) cpus: usize,
    pub(crate) mib: usize,
    pub(crate) drives: &'a [Drive],
    pub(crate) interfaces: &'a [NetworkInterface],
    pub(crate) taps: &'a [File],
    /// Dirty page tracking.
    pub(crate) tracked: bool,
}

/// What a guest is started from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin<'a> {
    /// A kernel.
    Boot(&'a BootSource),
    /// A snapshot: devices and memory.
    Saved { devices: &'a Path, memory: &'a Path },
}

/// A guest that QEMU runs. Dropping it kills QEMU.
#[derive(Debug)]
pub(crate) struct Emulation {
    qmp: Qmp,
    pid: u32,
    is_running: bool,
    /// With dirty page tracking: the memory at the last load or save, the base of the next diff.
    last: Option<File>,
    tracked: bool,
}

impl Emulation {
    /// Starts QEMU; a restored guest is paused. This process exits with the guest.
    pub(crate) fn start(hardware: Hardware<'_>, origin: Origin<'_>) -> io::Result<Self> {
        fs::remove_file(MEMORY).or_else(|error| ignore_not_found(&error))?;
        fs::remove_file(PORT).or_else(|error| ignore_not_found(&error))?;
        let before = match origin {
            Origin::Boot(_) => None,
            Origin::Saved { memory, .. } => {
                copy_data(&File::open(memory)?, &File::create(MEMORY)?, (hardware.mib as u64) << 20)?;
                Some(File::open(memory)?)
            }
        };
        let (ours, theirs) = UnixStream::pair()?;
        let mut child = command(hardware, origin, theirs)?.spawn()?;
        let pid = child.id();
        let mut qmp = Qmp::connect(ours)?;
        if matches!(origin, Origin::Saved { .. }) {
            until(|| Ok(qmp.call("query-status", &json!({}))?["status"] != "inmigrate"))?;
        }
        std::thread::spawn(move || exit_with_guest(&mut child));
        let last = before.filter(|_| hardware.tracked);
        Ok(Self { qmp, pid, is_running: matches!(origin, Origin::Boot(_)), last, tracked: hardware.tracked })
    }

    /// Resumes or pauses it.
    pub(crate) fn set_running(&mut self, is_running: bool) -> io::Result<()> {
        self.qmp.call(if is_running { "cont" } else { "stop" }, &json!({}))?;
        self.is_running = is_running;
        Ok(())
    }

    pub(crate) fn is_running(&self) -> bool {
        self.is_running
    }

    /// Writes the device state to one file, and to another all memory or, for a diff, the pages that changed
    /// since the last load or save. A page that returned to its content of two saves ago counts as changed.
    pub(crate) fn save(&mut self, devices: &Path, memory: &File, mib: usize, diff: bool) -> io::Result<()> {
        let devices = std::path::absolute(devices)?;
        self.qmp.call("xen-save-devices-state", &json!({ "filename": devices, "live": true }))?;
        let (now, length) = (File::open(MEMORY)?, (mib as u64) << 20);
        match self.last.as_ref().filter(|_| diff) {
            Some(before) => copy_differences(before, &now, memory, length)?,
            None => copy_data(&now, memory, length)?,
        }
        if self.tracked {
            let last = File::options().read(true).write(true).create(true).truncate(true).open(LAST_SAVE)?;
            fs::remove_file(LAST_SAVE)?;
            copy_data(&now, &last, length)?;
            self.last = Some(last);
        }
        Ok(())
    }
}

impl Drop for Emulation {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid as i32) {
            // It may have exited already.
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
    }
}

/// Connects to the guest's end of the link, once QEMU listens there.
pub(crate) fn connect_port() -> io::Result<UnixStream> {
    UnixStream::connect(PORT)
}

fn command(hardware: Hardware<'_>, origin: Origin<'_>, qmp: UnixStream) -> io::Result<Command> {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(arguments::build(hardware, origin, MEMORY));
    let mut mappings = vec![FdMapping { parent_fd: qmp.into(), child_fd: QMP_FD }];
    if let Some(tap) = hardware.taps.first() {
        mappings.push(FdMapping { parent_fd: tap.try_clone()?.into(), child_fd: TAP_FD });
    }
    if let Origin::Saved { devices, .. } = origin {
        mappings.push(FdMapping { parent_fd: File::open(devices)?.into(), child_fd: STATE_FD });
    }
    command.fd_mappings(mappings).map_err(io::Error::other)?;
    crate::fence::die_with_parent(&mut command);
    command.stdin(Stdio::null());
    Ok(command)
}

/// Exits when the guest ends, as Firecracker does.
fn exit_with_guest(child: &mut Child) {
    let succeeded = child.wait().is_ok_and(|status| status.success());
    // This process exits now, and the next start removes the file, too.
    fs::remove_file(MEMORY).ok();
    std::process::exit(i32::from(!succeeded));
}

fn until(mut condition: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let deadline = Instant::now() + RESTORE_TIMEOUT;
    while !condition()? {
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn ignore_not_found(error: &io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        kind => Err(kind.into()),
    }
}

/// Copies the pages that are not zero.
fn copy_data(from: &File, to: &File, length: u64) -> io::Result<()> {
    each_page(from, length, |offset, page| match page.iter().any(|byte| *byte != 0) {
        true => to.write_all_at(page, offset),
        false => Ok(()),
    })?;
    to.set_len(length)
}

/// Copies the pages that differ, including zeros; equal pages stay holes.
fn copy_differences(before: &File, now: &File, to: &File, length: u64) -> io::Result<()> {
    let mut old = vec![0; PAGE];
    each_page(now, length, |offset, page| {
        before.read_exact_at(&mut old, offset)?;
        if old == page { Ok(()) } else { to.write_all_at(page, offset) }
    })?;
    to.set_len(length)
}

fn each_page(
    mut file: &File,
    length: u64,
    mut visit: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    file.rewind()?;
    let mut reader = io::BufReader::with_capacity(1 << 20, file.take(length));
    let mut page = vec![0; PAGE];
    for offset in (0..length).step_by(PAGE) {
        reader.read_exact(&mut page)?;
        visit(offset, &page)?;
    }
    Ok(())
}
