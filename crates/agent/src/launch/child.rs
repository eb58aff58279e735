//! Between fork and exec.
//!
//! The agent has other threads, which may hold the allocator's locks at the
//! moment of the fork. So the child makes system calls only: nothing here
//! allocates, locks, or unwinds.
#![allow(unsafe_code, reason = "clone3, setuid and execve have no safe form; this is the fence round them")]

use std::ffi::{CStr, CString, c_char, c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

use super::init;
use crate::rootfs::ROOT;
use crate::rootfs::managed::BOOT_ID;
use crate::users::Identity;

/// A step that can fail, as it travels through the report's pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Stage {
    /// None has failed: the number is the child's process id.
    Born,
    Join,
    Session,
    Proc,
    BootId,
    Queues,
    Cgroup,
    ReadOnly,
    Pivot,
    Terminal,
    Streams,
    Init,
    Identity,
    Directory,
    Exec,
}

impl Stage {
    const ALL: [Self; 15] = [
        Self::Born,
        Self::Join,
        Self::Session,
        Self::Proc,
        Self::BootId,
        Self::Queues,
        Self::Cgroup,
        Self::ReadOnly,
        Self::Pivot,
        Self::Terminal,
        Self::Streams,
        Self::Init,
        Self::Identity,
        Self::Directory,
        Self::Exec,
    ];

    pub(super) fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| *stage as u32 == number)
    }

    /// What was tried, for people.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::Born => "fork",
            Self::Join => "enter the container's namespaces",
            Self::Session => "begin a session",
            Self::Proc => "mount /proc",
            Self::BootId => "bind the boot id",
            Self::Queues => "mount /dev/mqueue",
            Self::Cgroup => "mount /sys/fs/cgroup",
            Self::ReadOnly => "make the root read-only",
            Self::Pivot => "change the root",
            Self::Terminal => "take the terminal",
            Self::Streams => "set up the standard streams",
            Self::Init => "start the init process",
            Self::Identity => "become the user",
            Self::Directory => "enter the working directory",
            Self::Exec => "exec",
        }
    }
}

/// The step that failed, and how.
pub(super) type Fault = (Stage, c_int);

/// Which namespaces the child goes to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Join {
    /// Those that it was born into.
    New { read_only: bool },
    /// Those of another process.
    Container { pidfd: RawFd },
}

/// All that the child needs, made before the fork.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) join: Join,
    /// The terminal's name inside the container.
    pub(super) terminal: Option<&'a CStr>,
    /// Without a terminal: what becomes standard input, output and error.
    pub(super) stdio: Option<[RawFd; 3]>,
    pub(super) identity: &'a Identity,
    pub(super) directory: &'a CStr,
    pub(super) candidates: &'a [CString],
    pub(super) argv: &'a [*const c_char],
    pub(super) envp: &'a [*const c_char],
    /// Put the program below an init.
    pub(super) init: bool,
    pub(super) report: RawFd,
    /// Where the first process of a container reads a byte when it may begin.
    pub(super) begin: Option<RawFd>,
}

/// The strings' addresses, with the null that ends them.
pub(super) fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// Forks into `cgroup`, and into namespaces of its own when it is `first`.
pub(super) fn fork(plan: &Plan<'_>, cgroup: &OwnedFd, first: bool) -> io::Result<(i32, OwnedFd)> {
    const FIRST: c_int = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: c_int = -1;
    let namespaces = if first { FIRST as u64 } else { 0 };
    // SAFETY: all-zero is a valid clone_args, meaning "as fork does".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces | libc::CLONE_PIDFD as u64 | CLONE_INTO_CGROUP;
    args.pidfd = ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = cgroup.as_raw_fd() as u64;
    // SAFETY: the arguments outlive the call, and without CLONE_VM the child has
    // memory of its own; it then runs only code that neither allocates nor locks.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => run(plan),
        // SAFETY: the kernel has just opened this descriptor for us.
        pid => Ok((pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// The child's whole life before its program.
fn run(plan: &Plan<'_>) -> ! {
    // SAFETY: takes nothing and cannot fail.
    let pid = unsafe { libc::getpid() };
    tell(plan.report, (Stage::Born, pid));
    let Err(fault) = prepare(plan).and_then(|()| execute(plan));
    tell(plan.report, fault);
    // SAFETY: ends this process without running what the agent registered.
    unsafe { libc::_exit(127) }
}

fn tell(report: RawFd, (stage, number): Fault) {
    let mut record = [0; 8];
    record[..4].copy_from_slice(&(stage as u32).to_ne_bytes());
    record[4..].copy_from_slice(&number.to_ne_bytes());
    // SAFETY: the record is alive and eight bytes long. A reader that has gone needs nothing.
    unsafe { libc::write(report, record.as_ptr().cast(), record.len()) };
}

fn prepare(plan: &Plan<'_>) -> Result<(), Fault> {
    if let Some(begin) = plan.begin {
        let mut byte = 0u8;
        // SAFETY: the byte is alive, and one is what is asked for.
        check(Stage::Join, unsafe { libc::read(begin, (&raw mut byte).cast(), 1) as c_int })?;
    }
    match plan.join {
        Join::New { read_only } => own_root(read_only)?,
        Join::Container { pidfd } => join(pidfd)?,
    }
    // SAFETY: takes nothing; fails only for a group leader, which a new child is not.
    check(Stage::Session, unsafe { libc::setsid() })?;
    match (plan.terminal, plan.stdio) {
        (Some(name), _) => terminal(name, matches!(plan.join, Join::New { .. }))?,
        (None, Some(stdio)) => streams(stdio)?,
        (None, None) => {}
    }
    own_streams(plan.identity.uid);
    if plan.init {
        init::below(plan.report, plan.terminal.is_some())?;
    }
    default_signals();
    // SAFETY: takes a number and cannot fail.
    unsafe { libc::umask(0o022) };
    // SAFETY: the path is a live C string.
    check(Stage::Directory, unsafe { libc::chdir(plan.directory.as_ptr()) })?;
    become_user(plan.identity)
}

fn join(pidfd: RawFd) -> Result<(), Fault> {
    let all = libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;
    // SAFETY: takes a descriptor and flags.
    check(Stage::Join, unsafe { libc::setns(pidfd, all) })
}

/// What belongs to the namespaces that this process has just begun, and their root.
fn own_root(read_only: bool) -> Result<(), Fault> {
    // SAFETY: takes flags. The group itself was entered at birth and becomes the root of the view.
    check(Stage::Join, unsafe { libc::unshare(libc::CLONE_NEWCGROUP) })?;
    at(Stage::Pivot, rustix::process::chdir(ROOT))?;
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    at(Stage::Proc, mount(c"proc", c"proc", c"proc", quiet, c""))?;
    match mount_bind(BOOT_ID, c"proc/sys/kernel/random/boot_id") {
        // A kernel that shows none.
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return at(Stage::BootId, Err(errno)),
    }
    match mount(c"mqueue", c"dev/mqueue", c"mqueue", quiet, c"") {
        // A kernel without message queues.
        Ok(()) | Err(Errno::NODEV) => {}
        Err(errno) => return at(Stage::Queues, Err(errno)),
    }
    at(Stage::Cgroup, mount(c"cgroup", c"sys/fs/cgroup", c"cgroup2", quiet, c""))?;
    if read_only {
        at(Stage::ReadOnly, mount_remount(c".", MountFlags::BIND | MountFlags::RDONLY, c""))?;
    }
    at(Stage::Pivot, rustix::process::pivot_root(c".", c"."))?;
    // The old root lies over the new one now.
    at(Stage::Pivot, unmount(c".", UnmountFlags::DETACH))?;
    at(Stage::Pivot, rustix::process::chdir(c"/"))
}

/// Opens the terminal by its name in here, so that `ttyname` finds it.
fn terminal(name: &CStr, console: bool) -> Result<(), Fault> {
    if console {
        // SAFETY: the path is a live C string.
        let file = unsafe { libc::open(c"/dev/console".as_ptr(), libc::O_CREAT | libc::O_CLOEXEC, 0o600) };
        check(Stage::Terminal, file)?;
        at(Stage::Terminal, mount_bind(name, c"/dev/console"))?;
    }
    // SAFETY: the path is a live C string.
    let file = unsafe { libc::open(name.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    check(Stage::Terminal, file)?;
    // SAFETY: takes a descriptor and a number.
    check(Stage::Terminal, unsafe { libc::ioctl(file, libc::TIOCSCTTY, 0) })?;
    streams([file; 3])
}

fn streams(files: [RawFd; 3]) -> Result<(), Fault> {
    for (number, file) in (0..).zip(files) {
        // SAFETY: takes two descriptors.
        check(Stage::Streams, unsafe { libc::dup2(file, number) })?;
    }
    Ok(())
}

/// A program may open its streams again by name: they must be its user's.
fn own_streams(uid: u32) {
    for number in 0..3 {
        // SAFETY: takes numbers. What cannot be given away (/dev/null, say) needs not be.
        unsafe { libc::fchown(number, uid, libc::gid_t::MAX) };
    }
}

/// The agent blocks SIGCHLD, and its language ignores SIGPIPE.
fn default_signals() {
    // SAFETY: all-zero is the empty set, and SIG_DFL is no handler of ours.
    unsafe {
        let none: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// The raw calls: the C library's would have every thread follow, and there is none.
fn become_user(identity: &Identity) -> Result<(), Fault> {
    let Identity { uid, gid, groups, .. } = identity;
    let (uid, gid) = (c_long::from(*uid), c_long::from(*gid));
    // SAFETY: the groups are alive; the rest are numbers.
    let results = unsafe {
        [
            libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()),
            libc::syscall(libc::SYS_setresgid, gid, gid, gid),
            libc::syscall(libc::SYS_setresuid, uid, uid, uid),
        ]
    };
    results.into_iter().try_for_each(|result| check(Stage::Identity, result as c_int))
}

/// Tries the candidates in order, as a shell does: what is not there, or may
/// not be run, is passed over, and remembered.
fn execute(plan: &Plan<'_>) -> Result<std::convert::Infallible, Fault> {
    let mut worst = libc::ENOENT;
    for candidate in plan.candidates {
        // SAFETY: all strings and both arrays, with their nulls, are alive.
        unsafe { libc::execve(candidate.as_ptr(), plan.argv.as_ptr(), plan.envp.as_ptr()) };
        match errno() {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => worst = libc::EACCES,
            other => return Err((Stage::Exec, other)),
        }
    }
    Err((Stage::Exec, worst))
}

pub(super) fn check(stage: Stage, result: c_int) -> Result<(), Fault> {
    if result < 0 { Err((stage, errno())) } else { Ok(()) }
}

fn at(stage: Stage, result: rustix::io::Result<()>) -> Result<(), Fault> {
    result.map_err(|errno| (stage, errno.raw_os_error()))
}

fn errno() -> c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or_default()
}
