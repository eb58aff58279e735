//! A boot of the same kernel and initramfs in QEMU without mimeo, to the agent's hello.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mimeo_agent_protocol::link;
use serde_json::Value;
use tokio::time::timeout;

use crate::bench::lab::{IMAGE, Site};
use crate::bench::stopwatch::{self, millis};

const NAME: &str = "plain";
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);
/// The options of mimeo's QEMU that a boot needs.
const COPIED_OPTIONS: [&str; 6] = ["-accel", "-bios", "-kernel", "-initrd", "-append", "-cpu"];
/// All other options: no disks and no network.
const PLAIN_OPTIONS: &str = "-M microvm,acpi=on,rtc=on -smp 1 -m 512M -nodefaults -no-user-config -no-reboot -display none \
                     -serial null -device virtio-serial-device -device virtserialport,chardev=link,name=mimeo";

/// A plain QEMU command.
#[derive(Debug)]
pub(super) struct PlainBoot {
    args: Vec<OsString>,
    socket: PathBuf,
}

impl PlainBoot {
    /// Copies the needed options from a machine of this home.
    pub(super) fn from_machine_of(site: &Site<'_>) -> Result<Self> {
        site.mimeo(&["run", "-d", "--rm", "--cold", "--name", NAME, IMAGE, "sleep", "86400"])?;
        let args = qemu_options(site);
        site.stop(NAME)?;
        Ok(Self { args: args?, socket: site.run_dir().join("plain.sock") })
    }

    /// Boots the guest; returns the milliseconds from QEMU's start to the agent's hello.
    pub(super) fn boot(&self) -> Result<f64> {
        let runtime = stopwatch::runtime()?;
        let begun = Instant::now();
        let qemu = self.start()?;
        let stream = self.connect(begun)?;
        stream.set_nonblocking(true)?;
        let hello = async {
            let (reader, writer) = tokio::net::UnixStream::from_std(stream)?.into_split();
            Ok::<_, anyhow::Error>(timeout(BOOT_TIMEOUT, link::connect(reader, writer, 1, "bench")).await??)
        };
        let answered = runtime.block_on(hello).context("plain QEMU's guest")?;
        let took = millis(begun);
        drop((answered, qemu));
        Ok(took)
    }

    fn start(&self) -> Result<Qemu> {
        let mut chardev = OsString::from("socket,id=link,server=on,wait=off,path=");
        chardev.push(&self.socket);
        // The socket of the previous boot, if there was one.
        std::fs::remove_file(&self.socket).ok();
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-chardev".into(), chardev]).args(PLAIN_OPTIONS.split_whitespace()).args(&self.args);
        let process = command.stdin(Stdio::null()).spawn().context("cannot start QEMU")?;
        Ok(Qemu(process))
    }

    fn connect(&self, begun: Instant) -> Result<UnixStream> {
        loop {
            match UnixStream::connect(&self.socket) {
                Ok(stream) => return Ok(stream),
                Err(error) if begun.elapsed() > BOOT_TIMEOUT => return Err(error.into()),
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

/// A QEMU that is killed when this is dropped.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("cannot kill QEMU: {error}");
        }
    }
}

/// The options of the machine's QEMU that a boot needs, with their values.
fn qemu_options(site: &Site<'_>) -> Result<Vec<OsString>> {
    let document = site.json(&["inspect", NAME])?;
    let pid =
        document.pointer("/0/State/VmmPid").and_then(Value::as_u64).context("inspect shows no VmmPid")?;
    let line = std::fs::read(format!("/proc/{pid}/cmdline"))?;
    let words: Vec<_> = line.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect();
    let copied = words.windows(2).filter(|pair| COPIED_OPTIONS.iter().any(|name| pair[0] == *name));
    let args: Vec<_> = copied.flatten().cloned().collect();
    ensure!(args.len() == 2 * COPIED_OPTIONS.len(), "QEMU lacks an expected option: {words:?}");
    Ok(args)
}
