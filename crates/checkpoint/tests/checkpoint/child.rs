//! The process to checkpoint: this test program run again, with threads, locks and files. It takes commands
//! over a socket.
#![expect(
    unsafe_code,
    reason = "locks of the C library, descriptors by number and signals have no safe form"
)]

mod kernel;
mod locks;

use std::cell::UnsafeCell;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mimeo_checkpoint::{Checkpoint, CheckpointError, trace_me};

/// The descriptor that it reads commands from and writes answers to.
pub(crate) const SOCKET: i32 = 3;
/// The file that it has open.
pub(crate) const FILE: &str = "file";

const VARIABLE: &str = "MIMEO_CHECKPOINT_TEST_CHILD";
const TEST: &str = "child::runs_commands_from_its_socket";
/// Timeout for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The process, and the test's end of its socket.
pub(crate) struct Child {
    process: std::process::Child,
    socket: BufReader<UnixStream>,
}

impl Child {
    /// Starts a process that has a file in `files` open.
    pub(crate) fn start(files: &Path) -> Self {
        fs::write(files.join(FILE), "HEAD the file's content").unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", TEST, "--ignored", "--nocapture"]).env(VARIABLE, files.join(FILE));
        let mut child = Self::spawn(command, Vec::new());
        assert_eq!(child.send("hello"), "hello");
        child
    }

    /// A process restored from the checkpoint in `dir`.
    pub(crate) fn restore(dir: &Path, files: &Path) -> Self {
        Self::restore_in(dir, files, files)
    }

    /// The same, with the file moved from `old_dir` to `files`.
    pub(crate) fn restore_in(dir: &Path, old_dir: &Path, files: &Path) -> Self {
        let (child, restored) = Self::try_restore(dir, old_dir, files, &[]);
        restored.unwrap();
        child
    }

    /// The same, for a process that has `external` mapped as its external file.
    pub(crate) fn restore_external(dir: &Path, files: &Path, external: &Path) -> Self {
        let checkpoint = Checkpoint::open(dir).unwrap();
        let child = Self::stopped(&checkpoint, files, files);
        checkpoint.restore(child.pid(), Some(external), &[]).unwrap();
        child
    }

    pub(crate) fn try_restore(
        dir: &Path,
        old_dir: &Path,
        files: &Path,
        filters: &[Vec<u64>],
    ) -> (Self, Result<(), CheckpointError>) {
        let checkpoint = Checkpoint::open(dir).unwrap();
        let child = Self::stopped(&checkpoint, old_dir, files);
        let restored = checkpoint.restore(child.pid(), None, filters);
        (child, restored)
    }

    /// A process stopped before its first instruction, with the descriptors of the dumped one.
    pub(crate) fn stopped(checkpoint: &Checkpoint, old_dir: &Path, files: &Path) -> Self {
        let relocate =
            |path: &Path| path.strip_prefix(old_dir).map_or(path.to_owned(), |rest| files.join(rest));
        let descriptors = checkpoint.descriptors(relocate).unwrap();
        let mut command = Command::new(checkpoint.program());
        trace_me(&mut command);
        Self::spawn(command, descriptors)
    }

    fn spawn(mut command: Command, mut descriptors: Vec<(i32, OwnedFd)>) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        descriptors.push((SOCKET, theirs.into()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let numbers: Vec<(i32, i32)> = descriptors
            .iter()
            .map(|(number, file)| (*number, std::os::fd::AsRawFd::as_raw_fd(file)))
            .collect();
        // SAFETY: the closure makes system calls only; the descriptors that it uses stay open until after the
        // fork.
        unsafe {
            command.pre_exec(move || {
                // In all threads: otherwise one takes the signal that is to stay pending.
                kernel::block();
                // Move the descriptors away from the target numbers, then to them.
                let mut away = [(0, 0); 32];
                for (slot, (number, file)) in away.iter_mut().zip(&numbers) {
                    *slot = (*number, libc::fcntl(*file, libc::F_DUPFD_CLOEXEC, 512));
                }
                libc::syscall(libc::SYS_close_range, 3, 511, 0);
                for (number, file) in &away[..numbers.len()] {
                    libc::dup2(*file, *number);
                }
                Ok(())
            });
        }
        let process = command.spawn().unwrap();
        ours.set_read_timeout(Some(ANSWER_TIMEOUT)).unwrap();
        Self { process, socket: BufReader::new(ours) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends a command, and gives the answer.
    pub(crate) fn send(&mut self, command: &str) -> String {
        writeln!(self.socket.get_ref(), "{command}").unwrap();
        let mut answer = String::new();
        assert_ne!(self.socket.read_line(&mut answer).unwrap(), 0, "the child has ended");
        answer.trim_end().to_owned()
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().ok();
        self.process.wait().unwrap();
    }

    /// Reaps the process.
    pub(crate) fn ended(&mut self) {
        self.process.wait().unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Traces a thread of another process from a thread of its own, until `end`.
pub(crate) fn trace(tid: i32) -> Tracer {
    let (sender, receiver) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: the request reads and writes no memory.
        sender.send(unsafe { libc::ptrace(libc::PTRACE_SEIZE, tid, nothing, nothing) }).unwrap();
        ended.recv().unwrap_err();
        // SAFETY: the call writes nothing.
        assert_eq!(unsafe { libc::waitpid(tid, std::ptr::null_mut(), libc::__WALL) }, tid);
    });
    assert_eq!(receiver.recv().unwrap(), 0);
    Tracer { end, thread }
}

pub(crate) struct Tracer {
    end: std::sync::mpsc::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Tracer {
    /// Waits until the thread was reaped.
    pub(crate) fn end(self) {
        drop(self.end);
        self.thread.join().unwrap();
    }
}

/// A mutex of the C library that records its owner.
struct Lock(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: only the C library's calls use it, which are thread-safe.
unsafe impl Sync for Lock {}

static LOCK: Lock = Lock(UnsafeCell::new(libc::PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP));
static HANDLED: AtomicBool = AtomicBool::new(false);

extern "C" fn handle(_: libc::c_int) {
    HANDLED.store(true, Ordering::SeqCst);
}

/// The state that commands change.
struct State {
    count: u64,
    note: String,
    beats: Arc<AtomicU64>,
    events: OwnedFd,
    third: f64,
    file: fs::File,
    mapped: usize,
    mapped_file: Option<fs::File>,
}

#[test]
#[ignore = "it is the child process of other tests"]
fn runs_commands_from_its_socket() {
    let Some(path) = std::env::var_os(VARIABLE) else { return };
    let beats = Arc::new(AtomicU64::new(0));
    for _ in 0..2 {
        let beats = beats.clone();
        std::thread::spawn(move || {
            loop {
                beats.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
    }
    let handler: extern "C" fn(libc::c_int) = handle;
    // SAFETY: the handler only stores one value, which is async-signal-safe.
    unsafe { libc::signal(libc::SIGUSR1, handler as usize) };
    let events = rustix::event::eventfd(7, rustix::event::EventfdFlags::NONBLOCK).unwrap();
    let file = fs::File::open(path).unwrap();
    let mut state = State {
        count: 0,
        note: String::new(),
        beats,
        events,
        third: 1.0,
        file,
        mapped: 0,
        mapped_file: None,
    };
    // SAFETY: the parent process passed this descriptor.
    let socket = UnixStream::from(unsafe { OwnedFd::from_raw_fd(SOCKET) });
    for line in BufReader::new(&socket).lines() {
        let answer = run_command(&line.unwrap(), &mut state);
        writeln!(&socket, "{answer}").unwrap();
    }
}

fn run_command(command: &str, state: &mut State) -> String {
    match command.split_once(' ').unwrap_or((command, "")) {
        ("hello", _) => command.to_owned(),
        ("count", _) => {
            state.count += 1;
            state.count.to_string()
        }
        ("note", note) => {
            state.note = note.to_owned();
            state.third = 1.0 / 3.0;
            "noted".to_owned()
        }
        ("recall", _) => state.note.clone(),
        // SAFETY: the lock lives as long as the process.
        ("lock", _) => unsafe { libc::pthread_mutex_lock(LOCK.0.get()) }.to_string(),
        // SAFETY: as above.
        ("unlock", _) => unsafe { libc::pthread_mutex_unlock(LOCK.0.get()) }.to_string(),
        ("beats", _) => beats(&state.beats),
        ("thread", "parent") => std::thread::spawn(parent).join().unwrap(),
        ("thread", _) => std::thread::spawn(|| "joined".to_owned()).join().unwrap(),
        ("grow", _) => vec![1u8; 64 << 20].iter().map(|byte| usize::from(*byte)).sum::<usize>().to_string(),
        ("deep", _) => deep(64).to_string(),
        ("float", _) => (state.third.max(1.0) / 3.0).to_string(),
        ("events", _) => {
            let mut bytes = [0; 8];
            rustix::io::read(&state.events, &mut bytes).unwrap();
            u64::from_ne_bytes(bytes).to_string()
        }
        ("file", _) => {
            let mut bytes = vec![0; 64];
            let got = std::os::unix::fs::FileExt::read_at(&state.file, &mut bytes, 0).unwrap();
            String::from_utf8(bytes[..got].to_vec()).unwrap()
        }
        ("signal", _) => {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::USR1).unwrap();
            wait_until(|| HANDLED.load(Ordering::SeqCst));
            "handled".to_owned()
        }
        ("parent", _) => parent(),
        ("pipe", _) => {
            std::mem::forget(rustix::pipe::pipe().unwrap());
            "done".to_owned()
        }
        ("share", _) => {
            let rights = rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE;
            let flags = rustix::mm::MapFlags::SHARED;
            // SAFETY: a new mapping at an address that the kernel chooses.
            unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), 4096, rights, flags) }.unwrap();
            "done".to_owned()
        }
        ("install-filter", _) => install_filter(),
        _ => run_file_command(command, state),
    }
}

/// Commands about files.
fn run_file_command(command: &str, state: &mut State) -> String {
    match command.split_once(' ').unwrap_or((command, "")) {
        ("map", path) => {
            let file = fs::File::options().read(true).write(true).open(path).unwrap();
            state.mapped = map_file(&file);
            state.mapped_file = Some(file);
            "done".to_owned()
        }
        ("close-mapped", _) => {
            state.mapped_file = None;
            "done".to_owned()
        }
        // SAFETY: `map` was sent before, and mapped a page that stays mapped.
        ("mapped", _) => unsafe { std::ptr::read_volatile(state.mapped as *const u8) as char }.to_string(),
        ("flags", _) => change_flags(),
        ("seek", position) => {
            let position = position.parse().unwrap();
            rustix::fs::seek(&state.file, rustix::fs::SeekFrom::Start(position)).unwrap().to_string()
        }
        ("rest", _) => {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut state.file, &mut text).unwrap();
            text
        }
        ("lock-file", kind) => lock_file(&state.file, kind),
        ("semaphore", _) => {
            let flags = rustix::event::EventfdFlags::SEMAPHORE;
            std::mem::forget(rustix::event::eventfd(3, flags).unwrap());
            "done".to_owned()
        }
        ("advised" | "droppable" | "byte" | "mlock", _) => run_memory_command(command),
        (
            "wrlock" | "wrunlock" | "trywrlock" | "lock-kernel-mutex" | "lock-often" | "churn" | "linger"
            | "release",
            _,
        ) => locks::run_command(command),
        _ => kernel::run_command(command),
    }
}

/// Commands about memory. Addresses are hexadecimal.
fn run_memory_command(command: &str) -> String {
    let (command, words) = command.split_once(' ').unwrap_or((command, ""));
    let number = |text: &str| usize::from_str_radix(text, 16).unwrap();
    match command {
        "advised" => format!("{:x}", pages(libc::MAP_PRIVATE, words.parse().unwrap())),
        "droppable" => format!("{:x}", pages(libc::MAP_DROPPABLE, libc::MADV_NORMAL)),
        // SAFETY: the address was returned by an earlier command, and stays mapped.
        "byte" => unsafe { std::ptr::read_volatile(number(words) as *const u8) }.to_string(),
        "mlock" => {
            let address = pages(libc::MAP_PRIVATE, libc::MADV_NORMAL) as *const libc::c_void;
            // SAFETY: the page has just been mapped, and stays mapped.
            unsafe { libc::mlock(address, 4096) }.to_string()
        }
        other => panic!("unknown command: {other}"),
    }
}

/// Maps pages filled with ones, with advice.
fn pages(kind: libc::c_int, advice: libc::c_int) -> usize {
    const BYTES: usize = 64 << 10;
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address that the kernel chooses. It is written before the advice is given:
    // guard pages cannot be written.
    unsafe {
        let address = libc::mmap(std::ptr::null_mut(), BYTES, rights, kind | libc::MAP_ANONYMOUS, -1, 0);
        assert_ne!(address, libc::MAP_FAILED);
        address.cast::<u8>().write_bytes(1, BYTES);
        assert_eq!(libc::madvise(address, BYTES, advice), 0);
        address as usize
    }
}

fn beats(beats: &AtomicU64) -> String {
    let before = beats.load(Ordering::SeqCst);
    wait_until(|| beats.load(Ordering::SeqCst) > before + 5);
    "running".to_owned()
}

fn wait_until(condition: impl Fn() -> bool) {
    let end = Instant::now() + ANSWER_TIMEOUT;
    while !condition() {
        assert!(Instant::now() < end, "the condition was never met");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Uses 4 KiB of stack for each level of recursion.
fn deep(steps: u64) -> u64 {
    let buffer = std::hint::black_box([1u8; 4096]);
    let sum: u64 = buffer.iter().map(|byte| u64::from(*byte)).sum();
    if steps > 1 { sum + deep(steps - 1) } else { sum }
}

fn parent() -> String {
    // SAFETY: no arguments.
    unsafe { libc::syscall(libc::SYS_getppid) }.to_string()
}

/// Maps the first page of a file privately.
fn map_file(file: &fs::File) -> usize {
    let rights = rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE;
    let flags = rustix::mm::MapFlags::PRIVATE;
    // SAFETY: a new mapping at an address that the kernel chooses.
    let address = unsafe { rustix::mm::mmap(std::ptr::null_mut(), 4096, rights, flags, file, 0) }.unwrap();
    address as usize
}

/// Sets flags that differ from those of the standard streams as they are passed.
fn change_flags() -> String {
    let changes = [
        (1, libc::F_SETFL, libc::O_NONBLOCK | libc::O_APPEND),
        (2, libc::F_SETFL, libc::O_NONBLOCK),
        (2, libc::F_SETFD, libc::FD_CLOEXEC),
    ];
    // SAFETY: the calls take numbers only.
    let set = changes.map(|(number, call, flags)| unsafe { libc::fcntl(number, call, flags) });
    if set == [0; 3] { "done" } else { "refused" }.to_owned()
}

fn lock_file(file: &fs::File, kind: &str) -> String {
    let fd = std::os::fd::AsRawFd::as_raw_fd(file);
    let lock = libc::flock {
        l_type: libc::F_RDLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 3,
        l_len: 5,
        l_pid: 0,
    };
    // SAFETY: the calls read one `struct flock`, or take numbers only.
    let set = unsafe {
        match kind {
            "ofd" => libc::fcntl(fd, libc::F_OFD_SETLK, &raw const lock),
            "posix" => libc::fcntl(fd, libc::F_SETLK, &raw const lock),
            _ => libc::flock(fd, libc::LOCK_SH),
        }
    };
    if set == 0 { "done" } else { "refused" }.to_owned()
}

/// Installs a seccomp filter that allows everything.
fn install_filter() -> String {
    let step = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
    let program = libc::sock_fprog { len: 1, filter: (&raw const step).cast_mut() };
    // SAFETY: the program and its instruction outlive the calls.
    let set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        let all = libc::SECCOMP_FILTER_FLAG_TSYNC;
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, all, &raw const program)
    };
    if set == 0 { "done" } else { "refused" }.to_owned()
}
