//! `mimeo-agent`: the first program of every mimeo guest. PID 1 forks the agent proper, and waits until it may become the init
//! of a whole system (`pid_one`).
//!
//! It boots the guest until the host link works, and then serves the host's
//! requests: configure the machine, run the container, run more processes in
//! it, inspect it, freeze it, apply a clone's identity, and shut down.
//!
//! | where | what |
//! |---|---|
//! | `boot`, `modules`, `host_link`, `port`, `vsock` | from the first instruction to the first session |
//! | `sessions`, `machine` | sessions, requests, and the machine's state |
//! | one file per request | `configure`, `start`, `exec`, `signal`, `metrics`, … |
//! | `identify` | applies a clone's identity, one file per step |
//! | `pid_one`, `system` | whole systems, whose init becomes PID 1 |
//! | `launch` | starts processes; `launch/child.rs` is the code between fork and exec |

mod archive;
mod attach;
mod attachment;
mod blocking;
mod boot;
mod cgroup;
mod clocksource;
mod configure;
mod console;
mod disk;
mod disk_volume;
mod exec;
mod failure;
mod files;
mod freeze;
mod host_link;
mod identify;
mod launch;
mod machine;
mod metadata;
mod metrics;
mod modules;
mod names;
mod netlink;
mod network;
mod pid_one;
mod port;
mod probe;
mod processes;
mod procfs;
mod reaper;
mod reset;
mod rootfs;
mod sessions;
mod shutdown;
mod signal;
mod start;
mod stat;
mod streams;
mod sysctl;
mod system;
mod thaw;
mod users;
mod virtio;
mod volume;
mod vsock;
mod warm_up;
mod watch;

/// musl's allocator returns buffers of 128 KiB and more to the kernel as soon as they are freed, so each message of
/// a volume or of a process's output was copied into pages that had to be faulted in first: one to two faults for
/// each page of data. This allocator takes all buffers from one heap, and keeps up to 2 MiB free at its end. It does
/// not know which pages of it are zero, so it writes zeroed buffers in full.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() {
    if warm_up::is_requested() {
        return warm_up::run();
    }
    let prepared = boot::prepare().and_then(|booted| Ok((booted, pid_one::fork_agent()?)));
    let error = match prepared {
        Ok((booted, pid_one)) => run(booted, pid_one),
        Err(error) => error.into(),
    };
    console::log_last(&format!("fatal: {}", failure::chain(&*error)));
    shutdown::power_off();
}

type Fatal = Box<dyn std::error::Error>;

/// Serves the host. Returns only on a fatal error.
fn run(booted: boot::Booted, pid_one: pid_one::PidOne) -> Fatal {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return error.into(),
    };
    runtime.block_on(async {
        match sessions::serve_all(booted, pid_one).await {
            Ok(never) => match never {},
            Err(error) => error.into(),
        }
    })
}
