//! The code between fork and exec.
//!
//! The agent has other threads, which may hold the allocator's locks at the
//! moment of the fork. So the child makes only system calls: nothing here
//! allocates, locks, or unwinds.
#![allow(
    unsafe_code,
    reason = "clone3, setuid and execve have no safe form; they are confined to this module"
)]

use std::ffi::{CStr, CString, c_char, c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

use super::privileges::{ProgramPrivileges, write_file};
use super::{init, masks};
use crate::rootfs::ROOT;
use crate::rootfs::managed::BOOT_ID;
use crate::users::Credentials;

/// A stage that can fail, as it is written to the report's pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Stage {
    /// No failure: the number is the child's PID.
    Born,
    Join,
    Session,
    Proc,
    BootId,
    Queues,
    Cgroup,
    Sysctl,
    Masks,
    ReadOnly,
    Pivot,
    Terminal,
    Streams,
    Init,
    OomScore,
    Limits,
    Credentials,
    Capabilities,
    Directory,
    Exec,
}

impl Stage {
    const ALL: [Self; 20] = [
        Self::Born,
        Self::Join,
        Self::Session,
        Self::Proc,
        Self::BootId,
        Self::Queues,
        Self::Cgroup,
        Self::Sysctl,
        Self::Masks,
        Self::ReadOnly,
        Self::Pivot,
        Self::Terminal,
        Self::Streams,
        Self::Init,
        Self::OomScore,
        Self::Limits,
        Self::Credentials,
        Self::Capabilities,
        Self::Directory,
        Self::Exec,
    ];

    pub(super) fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| *stage as u32 == number)
    }

    /// The action of this stage, for messages.
    pub(super) fn action(self) -> &'static str {
        match self {
            Self::Born => "fork",
            Self::Join => "enter the container's namespaces",
            Self::Session => "start a session",
            Self::Proc => "mount /proc",
            Self::BootId => "bind the boot id",
            Self::Queues => "mount /dev/mqueue",
            Self::Cgroup => "mount /sys/fs/cgroup",
            Self::Sysctl => "set the kernel settings of the container's IPC namespace",
            Self::Masks => "restrict /proc and /sys",
            Self::ReadOnly => "make the root read-only",
            Self::Pivot => "change the root",
            Self::Terminal => "take the terminal",
            Self::Streams => "set up the standard streams",
            Self::Init => "start the init process",
            Self::OomScore => "set the OOM score adjustment",
            Self::Limits => "set the resource limits",
            Self::Credentials => "set the user and groups",
            Self::Capabilities => "set the capabilities",
            Self::Directory => "enter the working directory",
            Self::Exec => "exec",
        }
    }
}

/// The stage that failed, and its errno.
pub(super) type Fault = (Stage, c_int);

/// The child's namespaces.
#[derive(Debug, Clone, Copy)]
pub(super) enum Join<'a> {
    /// New ones, which the fork created.
    New(NewContainer<'a>),
    /// The namespaces of another process.
    Container { pidfd: RawFd },
}

/// What the first process of a container sets up in its namespaces.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewContainer<'a> {
    /// Make the root read-only.
    pub(super) read_only: bool,
    /// Restrict /proc, /sys and the cgroups.
    pub(super) masked: bool,
    /// Kernel settings of the IPC namespace: files and values.
    pub(super) sysctls: &'a [(CString, CString)],
}

/// Everything that the child needs, prepared before the fork.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) join: Join<'a>,
    /// The terminal's name inside the container.
    pub(super) terminal: Option<&'a CStr>,
    /// Without a terminal: standard input, output and error.
    pub(super) stdio: Option<[RawFd; 3]>,
    pub(super) credentials: &'a Credentials,
    pub(super) privileges: &'a ProgramPrivileges,
    pub(super) directory: &'a CStr,
    pub(super) candidates: &'a [CString],
    pub(super) argv: &'a [*const c_char],
    pub(super) envp: &'a [*const c_char],
    /// Run the program as the child of an init.
    pub(super) init: bool,
    pub(super) report: RawFd,
    /// The pipe on which the first process of a container waits for a byte before it starts.
    pub(super) start: Option<RawFd>,
}

/// The addresses of the strings, with a terminating null.
pub(super) fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// Forks into `cgroup`, and into new namespaces when it is the container's `first` process.
pub(super) fn fork(plan: &Plan<'_>, cgroup: &OwnedFd, first: bool) -> io::Result<(i32, OwnedFd)> {
    const NEW_NAMESPACES: c_int =
        libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: c_int = -1;
    let namespaces = if first { NEW_NAMESPACES as u64 } else { 0 };
    // SAFETY: all-zero is a valid clone_args, meaning "as fork does".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces | libc::CLONE_PIDFD as u64 | CLONE_INTO_CGROUP;
    args.pidfd = ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = cgroup.as_raw_fd() as u64;
    // SAFETY: the arguments outlive the call, and without CLONE_VM the child has
    // its own memory; it then runs only code that neither allocates nor locks.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => run(plan),
        // SAFETY: the kernel has just opened this descriptor for us.
        pid => Ok((pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// Runs in the child until the exec.
fn run(plan: &Plan<'_>) -> ! {
    // SAFETY: both take numbers and cannot fail. Until the exec this process holds the agent's memory and
    // descriptors: the container's root must not trace it or open them through /proc. The exec resets this.
    let pid = unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        libc::getpid()
    };
    write_record(plan.report, (Stage::Born, pid));
    let Err(fault) = prepare(plan).and_then(|()| execute(plan));
    write_record(plan.report, fault);
    // SAFETY: ends this process without running what the agent registered.
    unsafe { libc::_exit(127) }
}

fn write_record(report: RawFd, (stage, number): Fault) {
    let mut record = [0; 8];
    record[..4].copy_from_slice(&(stage as u32).to_ne_bytes());
    record[4..].copy_from_slice(&number.to_ne_bytes());
    // SAFETY: the record is alive and eight bytes long. When the reader is gone the write may fail.
    unsafe { libc::write(report, record.as_ptr().cast(), record.len()) };
}

fn prepare(plan: &Plan<'_>) -> Result<(), Fault> {
    if let Some(start) = plan.start {
        let mut byte = 0u8;
        // SAFETY: the byte is alive, and one byte is read.
        check(Stage::Join, unsafe { libc::read(start, (&raw mut byte).cast(), 1) as c_int })?;
    }
    match plan.join {
        Join::New(container) => set_up_container(container)?,
        Join::Container { pidfd } => join_container(pidfd)?,
    }
    // SAFETY: takes nothing; fails only for a group leader, which a new child is not.
    check(Stage::Session, unsafe { libc::setsid() })?;
    match (plan.terminal, plan.stdio) {
        (Some(name), _) => open_terminal(name, matches!(plan.join, Join::New(_)))?,
        (None, Some(stdio)) => set_streams(stdio)?,
        (None, None) => {}
    }
    chown_streams(plan.credentials.uid);
    enter_directory(plan)?;
    plan.privileges.apply_limits()?;
    set_credentials(plan.credentials)?;
    plan.privileges.apply_capabilities(plan.credentials.uid)?;
    // The init has the program's user and privileges.
    if plan.init {
        init::fork_init(plan.report, plan.terminal.is_some())?;
    }
    reset_signals();
    Ok(())
}

fn join_container(pidfd: RawFd) -> Result<(), Fault> {
    let namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;
    // SAFETY: takes a descriptor and flags.
    check(Stage::Join, unsafe { libc::setns(pidfd, namespaces) })
}

/// Mounts the filesystems of the new namespaces, and changes the root.
fn set_up_container(container: NewContainer<'_>) -> Result<(), Fault> {
    // SAFETY: takes flags. The process was forked into its cgroup, which becomes the root of the namespace.
    check(Stage::Join, unsafe { libc::unshare(libc::CLONE_NEWCGROUP) })?;
    check_rustix(Stage::Pivot, rustix::process::chdir(ROOT))?;
    let restricted = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    check_rustix(Stage::Proc, mount(c"proc", c"proc", c"proc", restricted, c""))?;
    check_rustix(Stage::Cgroup, mount(c"cgroup", c"sys/fs/cgroup", c"cgroup2", restricted, c""))?;
    for (path, value) in container.sysctls {
        write_file(Stage::Sysctl, path, value)?;
    }
    if container.masked {
        check_rustix(Stage::Masks, masks::apply())?;
    }
    match mount_bind(BOOT_ID, c"proc/sys/kernel/random/boot_id") {
        // The kernel has no boot id.
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return check_rustix(Stage::BootId, Err(errno)),
    }
    match mount(c"mqueue", c"dev/mqueue", c"mqueue", restricted, c"") {
        // The kernel has no message queues.
        Ok(()) | Err(Errno::NODEV) => {}
        Err(errno) => return check_rustix(Stage::Queues, Err(errno)),
    }
    if container.read_only {
        // A remount replaces all flags.
        let mut flags = MountFlags::BIND | MountFlags::RDONLY;
        flags.set(MountFlags::NODEV, container.masked);
        check_rustix(Stage::ReadOnly, mount_remount(c".", flags, c""))?;
    }
    check_rustix(Stage::Pivot, rustix::process::pivot_root(c".", c"."))?;
    // The old root is mounted over the new one now.
    check_rustix(Stage::Pivot, unmount(c".", UnmountFlags::DETACH))?;
    check_rustix(Stage::Pivot, rustix::process::chdir(c"/"))
}

/// Opens the terminal by its name in the container, so that `ttyname` finds it.
fn open_terminal(name: &CStr, console: bool) -> Result<(), Fault> {
    if console {
        // SAFETY: the path is a live C string.
        let file = unsafe { libc::open(c"/dev/console".as_ptr(), libc::O_CREAT | libc::O_CLOEXEC, 0o600) };
        check(Stage::Terminal, file)?;
        check_rustix(Stage::Terminal, mount_bind(name, c"/dev/console"))?;
    }
    // SAFETY: the path is a live C string.
    let file = unsafe { libc::open(name.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    check(Stage::Terminal, file)?;
    // SAFETY: takes a descriptor and a number.
    check(Stage::Terminal, unsafe { libc::ioctl(file, libc::TIOCSCTTY, 0) })?;
    set_streams([file; 3])
}

fn set_streams(files: [RawFd; 3]) -> Result<(), Fault> {
    for (number, file) in (0..).zip(files) {
        // SAFETY: takes two descriptors.
        check(Stage::Streams, unsafe { libc::dup2(file, number) })?;
    }
    Ok(())
}

/// Gives the streams to the user: a program may open them again by name.
fn chown_streams(uid: u32) {
    for number in 0..3 {
        // SAFETY: takes numbers. A failure is harmless: any user can open such a file (/dev/null, say).
        unsafe { libc::fchown(number, uid, libc::gid_t::MAX) };
    }
}

/// Enters the working directory. The path is the image's, the user's or the workload's, and could lead
/// through /proc/self/fd to a directory of the agent: all descriptors but the report's are closed before.
fn enter_directory(plan: &Plan<'_>) -> Result<(), Fault> {
    close_descriptors(3, plan.report - 1)?;
    close_descriptors(plan.report + 1, RawFd::MAX)?;
    // SAFETY: the path is a live C string.
    check(Stage::Directory, unsafe { libc::chdir(plan.directory.as_ptr()) })?;
    check_directory()
}

fn close_descriptors(first: RawFd, last: RawFd) -> Result<(), Fault> {
    if first > last {
        return Ok(());
    }
    // SAFETY: takes numbers. No code of the child uses these descriptors afterwards.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    check(Stage::Directory, result as c_int)
}

/// Refuses a working directory outside the process's root, of which the kernel says "(unreachable)".
fn check_directory() -> Result<(), Fault> {
    let mut path = [0_u8; libc::PATH_MAX as usize];
    // SAFETY: the buffer is alive and has this length.
    let result = unsafe { libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), path.len()) };
    check(Stage::Directory, result as c_int)?;
    if path[0] == b'/' { Ok(()) } else { Err((Stage::Directory, libc::EPERM)) }
}

/// Resets what the program must not inherit: the agent blocks SIGCHLD, and Rust ignores SIGPIPE.
fn reset_signals() {
    // SAFETY: all-zero is the empty set, and SIG_DFL is not a function.
    unsafe {
        let none: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// Sets groups, GID and UID by raw system calls: the C library's functions would signal
/// all threads, which do not exist in the child.
fn set_credentials(credentials: &Credentials) -> Result<(), Fault> {
    let Credentials { uid, gid, groups, .. } = credentials;
    let (uid, gid) = (c_long::from(*uid), c_long::from(*gid));
    // SAFETY: the groups are alive; the rest are numbers.
    let results = unsafe {
        [
            libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()),
            libc::syscall(libc::SYS_setresgid, gid, gid, gid),
            libc::syscall(libc::SYS_setresuid, uid, uid, uid),
        ]
    };
    results.into_iter().try_for_each(|result| check(Stage::Credentials, result as c_int))
}

/// Tries the candidates in order, as a shell does. Files that do not exist or may
/// not be executed are skipped; the error of the latter is returned at the end.
fn execute(plan: &Plan<'_>) -> Result<std::convert::Infallible, Fault> {
    let mut error = libc::ENOENT;
    for candidate in plan.candidates {
        // SAFETY: all strings and both arrays, with their nulls, are alive.
        unsafe { libc::execve(candidate.as_ptr(), plan.argv.as_ptr(), plan.envp.as_ptr()) };
        match errno() {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => error = libc::EACCES,
            other => return Err((Stage::Exec, other)),
        }
    }
    Err((Stage::Exec, error))
}

pub(super) fn check(stage: Stage, result: c_int) -> Result<(), Fault> {
    if result < 0 { Err((stage, errno())) } else { Ok(()) }
}

fn check_rustix(stage: Stage, result: rustix::io::Result<()>) -> Result<(), Fault> {
    result.map_err(|errno| (stage, errno.raw_os_error()))
}

fn errno() -> c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or_default()
}
