//! Cheap calls, lists, and the manager's memory.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::Client;

use super::figures::Call;
use crate::bench::samples::Samples;

/// Requests of one client whose time is measured.
const REQUESTS: usize = 200;
/// Clients that send requests as fast as they can.
const CLIENTS: usize = 4;
/// How long they do so.
const DURATION: Duration = Duration::from_secs(3);

/// Calls that read little.
pub(super) fn measure(client: &Client) -> Result<Vec<Call>> {
    let paths = [
        ("a machine that runs", "/v1/vms/source"),
        ("the caller", "/v1/whoami"),
        ("health", "/health"),
        ("a page of 100 machines", "/v1/vms?limit=100"),
    ];
    paths.into_iter().map(|(label, path)| Ok(call(client, label, path, true))).collect()
}

/// Pages of lists.
pub(super) fn lists(client: &Client) -> Result<Vec<Call>> {
    let first = client.get("/v1/vms?limit=500").ok(200).json();
    let cursor = first["next_cursor"].as_str().context("one page only")?.to_owned();
    let paths = [
        ("the first 100", "/v1/vms?limit=100".to_owned()),
        ("100 in the middle", format!("/v1/vms?limit=100&cursor={cursor}")),
        ("the first 100 by name", "/v1/vms?limit=100&sort=name".to_owned()),
        ("100 with a label", "/v1/vms?limit=100&label=group%3D7".to_owned()),
        ("100 that failed, the newest first", "/v1/vms?limit=100&state=failed&sort=-created".to_owned()),
        ("one by its name", "/v1/vms?name=record-5000".to_owned()),
    ];
    Ok(paths.iter().map(|(label, path)| call(client, label, path, false)).collect())
}

fn call(client: &Client, label: &str, path: &str, with_rate: bool) -> Call {
    let mut millis = Samples::default();
    for _ in 0..REQUESTS {
        let begin = Instant::now();
        client.get(path).ok(200);
        millis.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    Call { label: label.to_owned(), millis, per_second: with_rate.then(|| rate(client, path)) }
}

/// Requests per second of several clients.
fn rate(client: &Client, path: &str) -> f64 {
    let (count, end) = (AtomicU64::new(0), AtomicBool::new(false));
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let client = Client::new(client.url(), client.token());
                while !end.load(Ordering::Relaxed) {
                    client.get(path).ok(200);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(DURATION);
        end.store(true, Ordering::Relaxed);
    });
    count.into_inner() as f64 / begin.elapsed().as_secs_f64()
}

/// The memory (PSS) of a process.
pub(super) fn memory_kib(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no PSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
