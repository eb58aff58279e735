//! A vsock device for a machine under emulation, by rust-vmm's own program for it.
//!
//! Its host end speaks as Firecracker's does: who connects to its socket says
//! which port of the guest it wants, and is told when that answers.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

/// Debian has no package of it; `make test-deps` installs it.
pub const PROGRAM: &str = "vhost-device-vsock";
/// Where the agent listens.
const PORT: u32 = 1024;

/// Whether it is here; it is told loudly when not.
pub fn is_installed() -> bool {
    let found = Command::new(PROGRAM).arg("--version").output().is_ok();
    if !found {
        eprintln!(
            "NOT RUN: {PROGRAM} is not installed (`make test-deps`), and nothing else gives QEMU a vsock device"
        );
    }
    found
}

/// Starts the device's process; QEMU connects to `device` below `directory`.
pub fn start(directory: &Path) -> Child {
    let at = |name: &str| directory.join(name).display().to_string();
    let vm = format!("guest-cid=3,uds-path={},socket={}", at("link"), at("device"));
    let child = Command::new(PROGRAM).args(["--vm", &vm]).spawn().expect("it starts");
    while !directory.join("device").exists() {
        std::thread::yield_now();
    }
    child
}

/// What QEMU is told of it: a device shares the machine's memory.
pub fn arguments(directory: &Path) -> Vec<String> {
    let device = directory.join("device").display().to_string();
    [
        "-object",
        "memory-backend-memfd,id=ram,size=256M,share=on",
        "-machine",
        "memory-backend=ram",
        "-chardev",
        &format!("socket,id=vsock,path={device}"),
        "-device",
        "vhost-user-vsock-device,chardev=vsock",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Asks for the agent; none when it does not listen yet.
pub fn connect(socket: &Path) -> Option<UnixStream> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.write_all(format!("CONNECT {PORT}\n").as_bytes()).ok()?;
    let mut line = String::new();
    // One byte at a time: what comes after the line is the agent's.
    BufReader::with_capacity(1, &stream).read_line(&mut line).ok()?;
    line.starts_with("OK ").then_some(stream)
}

/// A way to the agent that can be cut and laid anew, as a machine's is when it is saved.
pub fn line(socket: &Path, first: UnixStream) -> (UnixStream, Arc<Notify>) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let cut = Arc::new(Notify::new());
    let (socket, asked) = (socket.to_owned(), cut.clone());
    tokio::spawn(async move {
        let (mut near, mut far) = (asynchronous(theirs), asynchronous(first));
        loop {
            tokio::select! {
                // Either side has gone for good.
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
                () = asked.notified() => {}
            }
            drop(far);
            far = loop {
                match connect(&socket) {
                    Some(stream) => break asynchronous(stream),
                    None => tokio::time::sleep(Duration::from_millis(2)).await,
                }
            };
        }
    });
    (ours, cut)
}

fn asynchronous(stream: UnixStream) -> tokio::net::UnixStream {
    stream.set_nonblocking(true).expect("does not block");
    tokio::net::UnixStream::from_std(stream).expect("a socket")
}
