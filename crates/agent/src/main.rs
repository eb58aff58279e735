//! `mimeo-agent`: PID 1 of every mimeo guest.
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
    let error = match boot::prepare() {
        Ok(booted) => run(booted),
        Err(error) => error.into(),
    };
    console::log_last(&format!("fatal: {}", failure::chain(&*error)));
    shutdown::power_off();
}

type Fatal = Box<dyn std::error::Error>;

/// Serves the host. Returns only on a fatal error.
fn run(booted: boot::Booted) -> Fatal {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return error.into(),
    };
    runtime.block_on(async {
        match sessions::serve_all(booted).await {
            Ok(never) => match never {},
            Err(error) => error.into(),
        }
    })
}
