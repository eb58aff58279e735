//! The container's program in a warm-up run of a boot snapshot: it uses the kernel as programs do.
//!
//! Without KVM, QEMU translates the guest's kernel as it executes it, and machines share what a warm-up run has
//! executed. No result matters here: what fails has been executed, too.

use std::fs::{self, File};
use std::hash::RandomState;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// The file name under which the host puts the agent into the container. It must match the engine's.
const PROGRAM: &str = "mimeo-warm-up";
/// The argument of a child process.
const CHILD: &str = "child";
const SCRATCH: &str = "/tmp";
/// Some pages. They are in the snapshots of all machines, like all that the program writes.
const FILE_BYTES: usize = 64 << 10;

/// Whether this process is the program, not PID 1 of the guest.
pub(crate) fn is_requested() -> bool {
    let name = std::env::args_os().next();
    name.is_some_and(|name| Path::new(&name).file_name() == Some(PROGRAM.as_ref()))
}

/// Does what common programs do. The child process only copies its input.
pub(crate) fn run() {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == CHILD) {
        io::copy(&mut io::stdin(), &mut io::stdout()).ok();
        return;
    }
    read_own_settings();
    read_files().ok();
    write_files().ok();
    run_child().ok();
    run_thread();
    use_sockets().ok();
    writeln!(io::stdout()).ok();
}

fn read_files() -> io::Result<()> {
    for directory in ["/", "/etc", "/proc/self/fd"] {
        for entry in fs::read_dir(directory)? {
            entry?.metadata().ok();
        }
    }
    for file in ["/etc/passwd", "/etc/hosts", "/proc/self/status", "/none"] {
        fs::read(file).ok();
    }
    fs::read_link("/proc/self/exe").ok();
    std::env::current_dir().map(drop)
}

/// What a C library does when a program starts.
fn read_own_settings() {
    rustix::process::getrlimit(rustix::process::Resource::Stack);
    black_box(rustix::process::getuid());
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    rustix::termios::isatty(rustix::stdio::stdin());
    rustix::thread::name().ok();
    black_box((RandomState::new(), Instant::now()));
}

fn write_files() -> io::Result<()> {
    let at = |name: &str| Path::new(SCRATCH).join(name);
    fs::create_dir_all(SCRATCH)?;
    let mut file = File::create(at("new"))?;
    file.write_all(&vec![1; FILE_BYTES])?;
    file.sync_all()?;
    fs::rename(at("new"), at("file"))?;
    fs::remove_file(at("file"))?;
    fs::create_dir(at("directory"))?;
    fs::remove_dir(at("directory"))
}

fn run_child() -> io::Result<()> {
    let mut command = Command::new("/proc/self/exe");
    std::os::unix::process::CommandExt::arg0(&mut command, PROGRAM);
    let mut child = command.arg(CHILD).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(b"input")?;
    }
    child.wait_with_output().map(drop)
}

fn run_thread() {
    let (sender, receiver) = mpsc::channel();
    let sending = thread::spawn(move || {
        thread::sleep(Duration::from_millis(1));
        sender.send(()).ok();
    });
    receiver.recv().ok();
    sending.join().ok();
}

fn use_sockets() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    exchange(client, listener.accept()?.0)?;
    let (one, other) = UnixStream::pair()?;
    exchange(one, other)
}

fn exchange(mut one: impl Write, mut other: impl Read) -> io::Result<()> {
    one.write_all(b"request")?;
    drop(one);
    other.read_to_end(&mut Vec::new()).map(drop)
}
