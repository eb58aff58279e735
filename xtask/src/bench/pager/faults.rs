//! How long a fault takes.

use std::future::pending;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use mimeo_pager::serve::{Options, PageServer};
use mimeo_pager::{PAGE, Pages, fake};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::crowd::Crowd;
use super::figures::{Pager, Round, Setting, Way};
use crate::bench::stopwatch;

/// Pages of the memory: 64 MiB.
pub(super) const PAGES: u64 = (64 << 20) / PAGE;
/// One clone is measured on one processor as well: where there are more, whether the kernel has server and clone take turns
/// on one or wake each other up across two is luck, and makes a difference of ten times.
const SETTINGS: [Setting; 4] = [
    Setting { clones: 1, one_processor: true },
    Setting { clones: 1, one_processor: false },
    Setting { clones: 4, one_processor: false },
    Setting { clones: 16, one_processor: false },
];

/// Writes the memory, which is in the page cache then.
pub(super) fn lay_out(memory: &Path) -> Result<()> {
    let bytes: Vec<_> = (0..PAGES * PAGE).map(|at| (at / 7) as u8 | 1).collect();
    std::fs::write(memory, bytes).with_context(|| memory.display().to_string())
}

/// Everything once in each round, so that a busy moment hits all.
pub(super) fn measure(pager: &mut Pager, memory: &Path, rounds: u32) -> Result<()> {
    let all = sched_getaffinity(None)?;
    for _ in 0..rounds {
        for setting in SETTINGS {
            sched_setaffinity(None, &if setting.one_processor { first(&all) } else { all })?;
            round(pager, memory, setting)?;
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

fn round(pager: &mut Pager, memory: &Path, setting: Setting) -> Result<()> {
    let mut recorded = Pages::default();
    for way in [Way::Bare, Way::Server, Way::Around, Way::Ahead] {
        let round = match way {
            Way::Bare => bare(memory, setting.clones)?,
            way => {
                let (round, asked) = serve(memory, setting.clones, options(way, &recorded))?;
                recorded = asked;
                round
            }
        };
        pager.round(way, setting, round);
    }
    Ok(())
}

fn options(way: Way, recorded: &Pages) -> Options {
    match way {
        Way::Server => Options { fault_around: 1, ..Options::default() },
        Way::Ahead => Options { prefetch: recorded.clone(), ..Options::default() },
        Way::Bare | Way::Around => Options::default(),
    }
}

/// A bare loop for each clone, on a thread of its own.
fn bare(memory: &Path, clones: usize) -> Result<Round> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("s");
    let listener = UnixListener::bind(&socket)?;
    thread::scope(|scope| {
        let loops: Vec<_> =
            (0..clones).map(|_| scope.spawn(|| fake::bare::serve(&listener, memory, PAGES))).collect();
        let round = Crowd::start(clones, "--socket", &socket)?.touch();
        for bare in loops {
            bare.join().map_err(|_| anyhow!("a bare loop broke down"))??;
        }
        round
    })
}

/// The page server, until its last clone has left; what its clones have asked for.
fn serve(memory: &Path, clones: usize, options: Options) -> Result<(Round, Pages)> {
    let server = PageServer::open(memory, options)?;
    let round = with(&server, |socket| Crowd::start(clones, "--socket", socket)?.touch())?;
    Ok((round, server.working_set()))
}

/// Does something while a server serves, until its last clone has left.
pub(super) fn with<T>(server: &PageServer, act: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("s");
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
        let figures = running.join().map_err(|_| anyhow!("the server broke down"))??;
        ensure!(figures.failed == 0, "{figures:?}");
        Ok(done)
    })
}
