//! The emulated host: a QEMU process that ends with this process.

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

/// Interval between checks whether QEMU has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long output may arrive after QEMU has ended.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Number of log lines in an error message.
const LOG_TAIL_LINES: usize = 30;
/// An AMD processor with SVM and nested paging, which Debian's QEMU can emulate.
const CPU: &str = "EPYC,+svm,+npt";
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet mitigations=off nokaslr root=/dev/vda rw init=/sbin/kvm-host \
                                panic=-1 sysrq_always_enabled=1";
const INIT: &str = include_str!("init.sh");

/// The script to run and the configuration of the emulated host.
#[derive(Debug)]
pub(super) struct Plan {
    /// A shell script.
    pub(super) script: String,
    /// Directories of this host that are mounted read-only under the same paths.
    pub(super) shares: Vec<PathBuf>,
    /// The directory for the files below /out.
    pub(super) files: Option<PathBuf>,
    pub(super) memory_mib: u32,
    pub(super) processors: u32,
    pub(super) timeout: Duration,
    /// Whether the script runs on this process's terminal.
    pub(super) tty: bool,
}

/// The exit of the emulated host.
#[derive(Debug)]
pub(super) struct HostExit {
    pub(super) exit_code: u8,
    /// Seconds from boot to a loaded `kvm-amd`, by the emulated host's clock.
    pub(super) until_ready: String,
    pub(super) took: Duration,
}

/// Cargo's target directory.
pub(crate) fn target() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    // target/<profile>/xtask
    own.ancestors().nth(2).map(PathBuf::from).unwrap_or_default()
}

/// Boots the emulated host, runs the script in it, and waits until it powers off.
pub(super) fn run(image: &Image, plan: &Plan) -> Result<HostExit> {
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
    let forwarder = (!plan.tty).then(|| streams.forward()).transpose()?;
    let ended = qemu.wait(plan.timeout);
    drop(qemu);
    if let Some(forwarder) = forwarder {
        forwarder.finish();
    }
    let took = begun.elapsed();
    let until_ready = fs::read_to_string(dir.join("ready")).unwrap_or_default().trim().to_owned();
    collect_files(dir, plan)?;
    match (ended, fs::read_to_string(dir.join("exit-code"))) {
        (Ok(()), Ok(code)) => Ok(HostExit { exit_code: code.trim().parse()?, until_ready, took }),
        (Ok(()), Err(_)) => bail!("the KVM host ended before the command did\n{}", log_tails(dir)),
        (Err(error), _) => Err(error.context(log_tails(dir))),
    }
}

/// Copies the command's files and the logs of QEMU and the console.
fn collect_files(dir: &Path, plan: &Plan) -> Result<()> {
    let Some(files) = &plan.files else { return Ok(()) };
    fs::create_dir_all(files)?;
    for log in ["console.log", "qemu.log"] {
        fs::copy(dir.join(log), files.join(log)).with_context(|| format!("cannot copy {log}"))?;
    }
    let tar = dir.join("files.tar");
    if !tar.exists() {
        return Ok(());
    }
    tar::Archive::new(File::open(&tar)?).unpack(files).context("cannot unpack the command's files")
}

/// The last lines of the logs of QEMU and the console.
fn log_tails(dir: &Path) -> String {
    let tail = |name: &str| {
        let text = String::from_utf8_lossy(&fs::read(dir.join(name)).unwrap_or_default()).into_owned();
        let lines: Vec<_> = text.lines().filter(|line| !line.contains("TCG doesn't support")).collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    };
    format!("QEMU's log ends with:\n{}\nthe console ends with:\n{}", tail("qemu.log"), tail("console.log"))
}

/// A QEMU that is killed when this value is dropped, and by the kernel when this process ends.
struct Qemu(Child);

impl Qemu {
    fn start(image: &Image, plan: &Plan, dir: &Path) -> Result<Self> {
        // setpriv sets the parent-death signal and executes QEMU.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(image.qemu.program()).args(arguments(image, plan, dir));
        command.stdin(if plan.tty { Stdio::inherit() } else { Stdio::null() });
        // QEMU warns about each CPU feature that it does not emulate.
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
        // Fails only if QEMU has ended already.
        self.0.kill().ok();
        // The process was killed: waiting only reaps it.
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
    // Under emulation on a busy host, a kernel that calibrates its clock hangs occasionally.
    let clock = tsc_khz().map(|khz| format!(" tsc_early_khz={khz}")).unwrap_or_default();
    args.push(format!("{KERNEL_ARGUMENTS}{clock}"));
    // Writes to the disk are discarded when QEMU ends.
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

/// The sockets of the command's standard streams. Each stream has its own port, because closing one direction of a port
/// closes the other too.
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

    fn forward(&self) -> Result<StreamForwarder> {
        let accept = |index: usize| self.listeners[index].accept().map(|(stream, _)| stream);
        let (input, output, errors) = (accept(0)?, accept(1)?, accept(2)?);
        // Not joined: a read of standard input may block forever.
        thread::spawn(move || copy(io::stdin(), input));
        let (from_output, from_errors) = (output.try_clone()?, errors.try_clone()?);
        let threads = vec![
            thread::spawn(move || copy(from_output, io::stdout())),
            thread::spawn(move || copy(from_errors, io::stderr())),
        ];
        Ok(StreamForwarder { threads, streams: [output, errors] })
    }
}

/// The threads that copy the command's output.
struct StreamForwarder {
    threads: Vec<thread::JoinHandle<()>>,
    streams: [UnixStream; 2],
}

impl StreamForwarder {
    /// Waits until the output has been copied. QEMU's end closes the sockets; if another process still holds them, they
    /// are shut down after a timeout.
    fn finish(self) {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        while Instant::now() < deadline && !self.threads.iter().all(thread::JoinHandle::is_finished) {
            thread::sleep(POLL_INTERVAL);
        }
        // Fails only if the socket is no longer connected.
        self.streams.iter().for_each(|stream| stream.shutdown(Shutdown::Both).unwrap_or_default());
        for thread in self.threads {
            // The threads do not panic; a failed write ends them.
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
