//! The emulated host itself: a QEMU process that ends with this one.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mimeo_vmm::accel::tsc_khz;

use super::image::Image;

/// From one look at whether QEMU has ended to the next.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long output may still come after the host's end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Lines of the host's console that an error shows.
const CONSOLE_LINES: usize = 30;
/// Instructions that Debian's QEMU emulates: those of an AMD processor with SVM and nested paging.
const CPU: &str = "EPYC,+svm,+npt";
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet mitigations=off nokaslr root=/dev/vda rw init=/sbin/kvm-host \
                                panic=-1 sysrq_always_enabled=1";
const INIT: &str = include_str!("init.sh");

/// What is to run, and what the host is to have.
#[derive(Debug)]
pub(super) struct Plan {
    /// A script for the host's shell.
    pub(super) script: String,
    /// Directories of this host, seen read-only under the same paths.
    pub(super) shares: Vec<PathBuf>,
    /// Where the files go that are left below /out.
    pub(super) files: Option<PathBuf>,
    pub(super) memory_mib: u32,
    pub(super) processors: u32,
    pub(super) timeout: Duration,
    /// On this process's terminal.
    pub(super) tty: bool,
}

/// How it went.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) exit_code: u8,
    /// From QEMU's start to a loaded `kvm-amd`, by the host's own clock.
    pub(super) until_ready: String,
    pub(super) took: Duration,
}

/// The directory that cargo builds in.
pub(crate) fn target() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    // target/<profile>/xtask
    own.ancestors().nth(2).map(PathBuf::from).unwrap_or_default()
}

/// Boots the host, runs the script in it, and waits for its end.
pub(super) fn run(image: &Image, plan: &Plan) -> Result<Ended> {
    let control =
        tempfile::Builder::new().prefix("kvm-host-").tempdir().context("cannot make a directory")?;
    let dir = control.path();
    fs::write(dir.join("init"), INIT)?;
    fs::write(dir.join("command"), &plan.script)?;
    let lines =
        plan.shares.iter().enumerate().map(|(index, path)| format!("share{index} {}\n", path.display()));
    fs::write(dir.join("shares"), lines.collect::<String>())?;
    if plan.tty {
        File::create(dir.join("tty"))?;
    }
    let streams = Streams::listen(dir)?;
    let begun = Instant::now();
    let mut qemu = Qemu::start(image, plan, dir)?;
    let carried = (!plan.tty).then(|| streams.carry()).transpose()?;
    let ended = qemu.wait(plan.timeout);
    drop(qemu);
    if let Some(carried) = carried {
        carried.finish();
    }
    let took = begun.elapsed();
    let until_ready = fs::read_to_string(dir.join("ready")).unwrap_or_default().trim().to_owned();
    collect_files(dir, plan)?;
    match (ended, fs::read_to_string(dir.join("exit-code"))) {
        (Ok(()), Ok(code)) => Ok(Ended { exit_code: code.trim().parse()?, until_ready, took }),
        (Ok(()), Err(_)) => bail!("the KVM host ended before the command did\n{}", evidence(dir)),
        (Err(error), _) => Err(error.context(evidence(dir))),
    }
}

/// The command's files, and what QEMU and the host's console said.
fn collect_files(dir: &Path, plan: &Plan) -> Result<()> {
    let Some(files) = &plan.files else { return Ok(()) };
    fs::create_dir_all(files)?;
    for log in ["console.log", "qemu.log"] {
        fs::copy(dir.join(log), files.join(log)).with_context(|| format!("cannot keep {log}"))?;
    }
    let tar = dir.join("files.tar");
    if !tar.exists() {
        return Ok(());
    }
    tar::Archive::new(File::open(&tar)?)
        .unpack(files)
        .context("cannot unpack the files that the command left")
}

/// What QEMU and the host's console said last.
fn evidence(dir: &Path) -> String {
    let tail = |name: &str| {
        let text = String::from_utf8_lossy(&fs::read(dir.join(name)).unwrap_or_default()).into_owned();
        let lines: Vec<_> = text.lines().filter(|line| !line.contains("TCG doesn't support")).collect();
        lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n")
    };
    format!("QEMU said:\n{}\nthe host's console ends with:\n{}", tail("qemu.log"), tail("console.log"))
}

/// A QEMU that is killed when this value goes, and by the kernel when this process does.
struct Qemu(Child);

impl Qemu {
    fn start(image: &Image, plan: &Plan, dir: &Path) -> Result<Self> {
        // setpriv becomes the program that it is given, with the kernel's promise to kill it when we are gone.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(image.qemu.program()).args(arguments(image, plan, dir));
        command.stdin(if plan.tty { Stdio::inherit() } else { Stdio::null() });
        // It warns of each feature of the processor that it does not emulate.
        command.stderr(File::create(dir.join("qemu.log"))?);
        command.spawn().map(Self).context("cannot start setpriv, which starts QEMU")
    }

    fn wait(&mut self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.0.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("QEMU ended with {status}"),
                None if Instant::now() > deadline => {
                    bail!("the KVM host did not end within {} s", timeout.as_secs())
                }
                None => thread::sleep(POLL_INTERVAL),
            }
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn arguments(image: &Image, plan: &Plan, dir: &Path) -> Vec<String> {
    let path = |name: &str| dir.join(name).display().to_string();
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut args = words(&format!(
        "-M q35 -accel tcg,thread=multi,tb-size=512 -cpu {CPU} -smp {} -m {} -nodefaults -display none -no-reboot \
         -device virtio-rng-pci -device virtio-serial-pci",
        plan.processors, plan.memory_mib
    ));
    args.extend(image.qemu.firmware());
    args.extend(["-kernel".to_owned(), image.kernel.display().to_string()]);
    args.extend(["-initrd".to_owned(), image.initrd.display().to_string()]);
    args.push("-append".to_owned());
    // A kernel that calibrates its clock under emulation on a busy host hangs now and then.
    let clock = tsc_khz().map(|khz| format!(" tsc_early_khz={khz}")).unwrap_or_default();
    args.push(format!("{KERNEL_ARGUMENTS}{clock}"));
    // What is written to the disk is gone with the process.
    args.push("-drive".to_owned());
    args.push(format!("file={},format=raw,if=virtio,snapshot=on", image.root.display()));
    args.extend(["-serial".to_owned(), format!("file:{}", path("console.log"))]);
    args.extend(share(&dir.display().to_string(), "control", false));
    for (index, shared) in plan.shares.iter().enumerate() {
        args.extend(share(&shared.display().to_string(), &format!("share{index}"), true));
    }
    if plan.tty {
        args.extend(words("-chardev stdio,id=tty,signal=off -device virtconsole,chardev=tty"));
    } else {
        for name in Streams::NAMES {
            args.extend(["-chardev".to_owned(), format!("socket,id={name},path={}", path(name))]);
            args.extend(["-device".to_owned(), format!("virtserialport,chardev={name},name={name}")]);
        }
    }
    args
}

fn share(path: &str, tag: &str, read_only: bool) -> [String; 2] {
    let read_only = if read_only { ",readonly=on" } else { "" };
    let options = "security_model=none,multidevs=remap";
    ["-virtfs".to_owned(), format!("local,path={path},mount_tag={tag},{options}{read_only}")]
}

/// The sockets that carry the command's standard streams, one for each: where one direction of a port ends, so does the
/// other.
struct Streams {
    listeners: [UnixListener; 3],
}

impl Streams {
    const NAMES: [&str; 3] = ["input", "output", "errors"];

    fn listen(dir: &Path) -> Result<Self> {
        let listen = |name| UnixListener::bind(dir.join(name)).context("cannot listen");
        let [input, output, errors] = Self::NAMES;
        Ok(Self { listeners: [listen(input)?, listen(output)?, listen(errors)?] })
    }

    fn carry(&self) -> Result<Carried> {
        let accept = |index: usize| self.listeners[index].accept().map(|(stream, _)| stream);
        let (input, output, errors) = (accept(0)?, accept(1)?, accept(2)?);
        // Ends with the process: nobody waits for who may type forever.
        thread::spawn(move || copy(io::stdin(), input));
        let (from_output, from_errors) = (output.try_clone()?, errors.try_clone()?);
        let threads = vec![
            thread::spawn(move || copy(from_output, io::stdout())),
            thread::spawn(move || copy(from_errors, io::stderr())),
        ];
        Ok(Carried { threads, streams: [output, errors] })
    }
}

/// Threads that copy the command's output.
struct Carried {
    threads: Vec<thread::JoinHandle<()>>,
    streams: [UnixStream; 2],
}

impl Carried {
    /// QEMU's end is the sockets' end; should another process hold them, ours is.
    fn finish(self) {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        while Instant::now() < deadline && !self.threads.iter().all(thread::JoinHandle::is_finished) {
            thread::sleep(POLL_INTERVAL);
        }
        // Not connected any more is what is wanted.
        self.streams.iter().for_each(|stream| stream.shutdown(Shutdown::Both).unwrap_or_default());
        for thread in self.threads {
            // A copier cannot panic; its errors are the reader's end.
            thread.join().unwrap_or_default();
        }
    }
}

fn copy(mut from: impl Read, mut to: impl Write) {
    let mut buffer = [0; 8192];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}
