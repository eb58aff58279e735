//! The same kernel and first filesystem in QEMU without mimeo, to the agent's first answer.

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
const PATIENCE: Duration = Duration::from_secs(60);
/// What a machine of mimeo's is given that a boot cannot do without.
const TAKEN: [&str; 6] = ["-accel", "-bios", "-kernel", "-initrd", "-append", "-cpu"];
/// The rest, plain: no disks and no network.
const GIVEN: &str = "-M microvm,acpi=on,rtc=on -smp 1 -m 512M -nodefaults -no-user-config -no-reboot -display none \
                     -serial null -device virtio-serial-device -device virtserialport,chardev=link,name=mimeo";

/// How to boot it.
#[derive(Debug)]
pub(super) struct Plain {
    args: Vec<OsString>,
    socket: PathBuf,
}

impl Plain {
    /// As a machine that was booted there.
    pub(super) fn like(site: &Site<'_>) -> Result<Self> {
        site.mimeo(&["run", "-d", "--rm", "--cold", "--name", NAME, IMAGE, "sleep", "86400"])?;
        let args = arguments(site);
        site.stop(NAME)?;
        Ok(Self { args: args?, socket: site.run_dir().join("plain.sock") })
    }

    /// Boots it; milliseconds from QEMU's start to the hello.
    pub(super) fn boot(&self) -> Result<f64> {
        let runtime = stopwatch::runtime()?;
        let begun = Instant::now();
        let qemu = self.start()?;
        let stream = self.connect(begun)?;
        stream.set_nonblocking(true)?;
        let hello = async {
            let (reader, writer) = tokio::net::UnixStream::from_std(stream)?.into_split();
            Ok::<_, anyhow::Error>(timeout(PATIENCE, link::connect(reader, writer, 1, "bench")).await??)
        };
        let answered = runtime.block_on(hello).context("plain QEMU's guest")?;
        let took = millis(begun);
        drop((answered, qemu));
        Ok(took)
    }

    fn start(&self) -> Result<Qemu> {
        let mut chardev = OsString::from("socket,id=link,server=on,wait=off,path=");
        chardev.push(&self.socket);
        std::fs::remove_file(&self.socket).ok();
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-chardev".into(), chardev]).args(GIVEN.split_whitespace()).args(&self.args);
        let process = command.stdin(Stdio::null()).spawn().context("QEMU does not start")?;
        Ok(Qemu(process))
    }

    fn connect(&self, begun: Instant) -> Result<UnixStream> {
        loop {
            match UnixStream::connect(&self.socket) {
                Ok(stream) => return Ok(stream),
                Err(error) if begun.elapsed() > PATIENCE => return Err(error.into()),
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

/// Ends with this.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("QEMU: {error}");
        }
    }
}

/// What that machine's own QEMU was given, each with its name.
fn arguments(site: &Site<'_>) -> Result<Vec<OsString>> {
    let told = site.json(&["inspect", NAME])?;
    let pid = told.pointer("/0/State/VmmPid").and_then(Value::as_u64).context("inspect tells no VMM")?;
    let line = std::fs::read(format!("/proc/{pid}/cmdline"))?;
    let words: Vec<_> = line.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect();
    let taken = words.windows(2).filter(|pair| TAKEN.iter().any(|name| pair[0] == *name));
    let args: Vec<_> = taken.flatten().cloned().collect();
    ensure!(args.len() == 2 * TAKEN.len(), "QEMU was given {words:?}");
    Ok(args)
}
