//! Commands about state that the kernel holds of a process: signals, alternate stacks, timers, barriers.

use std::mem::zeroed;
use std::ptr::null;

const BLOCKED: [libc::c_int; 2] = [libc::SIGUSR2, libc::SIGWINCH];

/// Blocks some signals in this thread, in those that it starts, and in the program that it executes.
pub(super) fn block() {
    // SAFETY: the calls write to and read from `set`.
    unsafe {
        let mut set = zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in BLOCKED {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
}

pub(super) fn run_command(command: &str) -> String {
    match command {
        "send-signals" => send_signals(),
        "take-signals" => BLOCKED.map(|signal| take_signal(signal).to_string()).join(" "),
        "alternate-stack" => alternate_stack(),
        "register-barrier" => barrier(1 << 4),
        "barrier" => barrier(1 << 3),
        "hide-registrations" => hide_registrations(),
        // SAFETY: takes a number.
        "alarm" => unsafe { libc::alarm(1000) }.to_string(),
        "timer" => timer(),
        other => panic!("unknown command: {other}"),
    }
}

/// Sends one signal to the process and one to this thread, each with its own value.
fn send_signals() -> String {
    let value = |number: usize| libc::sigval { sival_ptr: number as *mut libc::c_void };
    // SAFETY: the calls take numbers only.
    let sent = unsafe {
        [
            libc::sigqueue(libc::getpid(), libc::SIGUSR2, value(42)),
            libc::pthread_sigqueue(libc::pthread_self(), libc::SIGWINCH, value(43)),
        ]
    };
    if sent == [0; 2] { "done" } else { "refused" }.to_owned()
}

/// The value of a pending signal, or -1.
fn take_signal(signal: libc::c_int) -> i64 {
    // SAFETY: the calls write to and read from these values.
    unsafe {
        let (mut set, mut info): (libc::sigset_t, libc::siginfo_t) = (zeroed(), zeroed());
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        let no_wait = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        if libc::sigtimedwait(&raw const set, &raw mut info, &raw const no_wait) != signal {
            return -1;
        }
        info.si_value().sival_ptr as i64
    }
}

fn alternate_stack() -> String {
    // SAFETY: the call writes to `stack`.
    let stack = unsafe {
        let mut stack: libc::stack_t = zeroed();
        libc::sigaltstack(null(), &raw mut stack);
        stack
    };
    format!("{:?} {} {}", stack.ss_sp, stack.ss_flags, stack.ss_size)
}

fn barrier(command: libc::c_int) -> String {
    // SAFETY: takes numbers only.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0) }.to_string()
}

/// Has `membarrier` refuse to list registrations, as kernels before 6.3 do.
fn hide_registrations() -> String {
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let steps = [
        step(0x20, 0, 0, 0),
        step(0x15, 0, 3, libc::SYS_membarrier as u32),
        step(0x20, 0, 0, 16),
        step(0x15, 0, 1, 1 << 9),
        step(0x06, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32),
        step(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 6, filter: (&raw const steps).cast_mut().cast() };
    // SAFETY: the program and its instructions outlive the calls.
    let set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    };
    if set == 0 { "done" } else { "refused" }.to_owned()
}

fn timer() -> String {
    // SAFETY: the call reads `event` and writes to `timer`.
    let created = unsafe {
        let mut event: libc::sigevent = zeroed();
        event.sigev_notify = libc::SIGEV_NONE;
        let mut timer: libc::timer_t = zeroed();
        libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer)
    };
    if created == 0 { "done" } else { "refused" }.to_owned()
}
