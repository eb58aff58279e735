//! The time per page fault.

use std::future::pending;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use mimeo_pager::page_server::{Options, PageServer};
use mimeo_pager::{PAGE, Pages, fake};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::clone_group::CloneGroup;
use super::figures::{FaultHandler, Pager, Round, Setting};
use crate::bench::stopwatch;

/// The number of pages of the memory, which is 64 MiB.
pub(super) const PAGES: u64 = (64 << 20) / PAGE;
/// One clone is also measured on one processor. With several processors it is chance whether the kernel runs server and
/// clone on the same one or wakes one from the other across two, and that makes a tenfold difference.
const SETTINGS: [Setting; 4] = [
    Setting { clones: 1, one_processor: true },
    Setting { clones: 1, one_processor: false },
    Setting { clones: 4, one_processor: false },
    Setting { clones: 16, one_processor: false },
];

/// Writes the memory file, which leaves it in the page cache.
pub(super) fn write_memory(memory: &Path) -> Result<()> {
    let bytes: Vec<_> = (0..PAGES * PAGE).map(|at| (at / 7) as u8 | 1).collect();
    std::fs::write(memory, bytes).with_context(|| memory.display().to_string())
}

/// Measures everything once per round, so that load on the host affects all.
pub(super) fn measure(pager: &mut Pager, memory: &Path, rounds: u32) -> Result<()> {
    let all = sched_getaffinity(None)?;
    for _ in 0..rounds {
        for setting in SETTINGS {
            sched_setaffinity(None, &if setting.one_processor { first(&all) } else { all })?;
            measure_round(pager, memory, setting)?;
        }
    }
    Ok(sched_setaffinity(None, &all)?)
}

/// The first processor of a set.
fn first(all: &CpuSet) -> CpuSet {
    let mut one = CpuSet::new();
    let first = (0..CpuSet::MAX_CPU).find(|processor| all.is_set(*processor));
    first.into_iter().for_each(|processor| one.set(processor));
    one
}

fn measure_round(pager: &mut Pager, memory: &Path, setting: Setting) -> Result<()> {
    let mut recorded = Pages::default();
    for handler in [
        FaultHandler::BareLoop,
        FaultHandler::ServerSinglePage,
        FaultHandler::Server,
        FaultHandler::ServerPrefetch,
    ] {
        let round = match handler {
            FaultHandler::BareLoop => run_bare_loops(memory, setting.clones)?,
            handler => {
                let options = server_options(handler, &recorded);
                let (round, requested) = run_server(memory, setting.clones, options)?;
                recorded = requested;
                round
            }
        };
        pager.add(handler, setting, round);
    }
    Ok(())
}

fn server_options(handler: FaultHandler, recorded: &Pages) -> Options {
    match handler {
        FaultHandler::ServerSinglePage => Options { fault_around: 1, ..Options::default() },
        FaultHandler::ServerPrefetch => Options { prefetch: recorded.clone(), ..Options::default() },
        FaultHandler::BareLoop | FaultHandler::Server => Options::default(),
    }
}

/// Serves each clone with a bare loop on its own thread.
fn run_bare_loops(memory: &Path, clones: usize) -> Result<Round> {
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("s");
    let listener = UnixListener::bind(&socket)?;
    thread::scope(|scope| {
        let loops: Vec<_> =
            (0..clones).map(|_| scope.spawn(|| fake::bare::serve(&listener, memory, PAGES))).collect();
        let round = CloneGroup::start(clones, "--socket", &socket)?.touch();
        for bare in loops {
            bare.join().map_err(|_| anyhow!("a bare loop panicked"))??;
        }
        round
    })
}

/// Runs the page server until its last clone has left; also returns the pages that the clones requested.
fn run_server(memory: &Path, clones: usize, options: Options) -> Result<(Round, Pages)> {
    let server = PageServer::open(memory, options)?;
    let round = with_server(&server, |socket| CloneGroup::start(clones, "--socket", socket)?.touch())?;
    Ok((round, server.working_set()))
}

/// Runs `act` with a running server, then waits until the last clone has left.
pub(super) fn with_server<T>(server: &PageServer, act: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("s");
    let (runtime, listener) = (stopwatch::runtime()?, UnixListener::bind(&socket)?);
    listener.set_nonblocking(true)?;
    thread::scope(|scope| {
        let running = scope.spawn(|| {
            runtime.block_on(async {
                let listener = tokio::net::UnixListener::from_std(listener)?;
                anyhow::Ok(server.run(listener, pending(), drop).await)
            })
        });
        let done = act(&socket)?;
        let figures = running.join().map_err(|_| anyhow!("the server panicked"))??;
        ensure!(figures.failed == 0, "{figures:?}");
        Ok(done)
    })
}
