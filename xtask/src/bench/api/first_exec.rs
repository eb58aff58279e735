//! From the request for a machine to the result of its first exec, over one connection.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use e2e::{Client, until};
use serde_json::{Value, json};

use super::figures::Start;
use super::{IMAGE, POOL, SNAPSHOT};
use crate::bench::samples::Samples;

/// What a machine is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// An image.
    Image,
    /// A snapshot.
    Snapshot,
    /// A pool of clones of the same snapshot.
    Pool,
}

impl Origin {
    /// All of them; the pool last, since it is there from then on.
    pub(super) const ALL: [Self; 3] = [Self::Image, Self::Snapshot, Self::Pool];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Snapshot => "snapshot",
            Self::Pool => "pool",
        }
    }

    fn request(self) -> Value {
        match self {
            Self::Image => json!({ "image": IMAGE, "command": ["sleep", "1000000"] }),
            Self::Snapshot | Self::Pool => json!({ "snapshot": SNAPSHOT }),
        }
    }
}

/// Starts machines by several clients at a time.
pub(super) fn measure(client: &Client, origin: Origin, clients: usize, machines: usize) -> Result<Start> {
    match origin {
        Origin::Pool => set_pool(client),
        Origin::Image | Origin::Snapshot => remove_pool(client),
    }
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                // A connection of its own.
                let client = Client::new(client.url(), client.token());
                client.get("/v1/whoami").ok(200);
                while next.fetch_add(1, Ordering::Relaxed) < machines {
                    let started = start(&client, origin);
                    results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(started);
                }
            });
        }
    });
    let (mut millis, mut creation) = (Samples::default(), Samples::default());
    for result in results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        let (whole, part) = result?;
        millis.push(whole);
        creation.push(part);
    }
    Ok(Start { origin: origin.label().to_owned(), clients, millis, creation })
}

/// Starts one machine and removes it; returns the milliseconds until its first exec has answered, and until it ran.
fn start(client: &Client, origin: Origin) -> Result<(f64, f64)> {
    let begin = Instant::now();
    let machine = client.create(&origin.request());
    let creation = begin.elapsed();
    let id = machine["id"].as_str().context("a machine without an id")?;
    let result = client.post(&format!("/v1/vms/{id}/exec"), &json!({ "command": ["true"] })).ok(200).json();
    let whole = begin.elapsed();
    ensure!(result["item"]["exit_code"] == 0, "{result}");
    client.delete(&format!("/v1/vms/{id}?wait=60")).ok(200);
    Ok((whole.as_secs_f64() * 1000.0, creation.as_secs_f64() * 1000.0))
}

/// Starts one machine from the pool, when that is full.
pub(super) fn start_one(client: &Client) -> Result<(f64, f64)> {
    wait_for_pool(client);
    start(client, Origin::Pool)
}

pub(super) fn set_pool(client: &Client) {
    let path = format!("/v1/snapshots/{SNAPSHOT}/pool?wait=60");
    let answer = client.json("PUT", &path, &json!({ "size": POOL }));
    assert!([200, 201, 202].contains(&answer.status), "{answer:?}");
    wait_for_pool(client);
}

fn wait_for_pool(client: &Client) {
    until("the pool is full", || {
        let pool = client.get(&format!("/v1/snapshots/{SNAPSHOT}/pool"));
        (pool.status == 200 && pool.json()["item"]["ready"] == POOL).then_some(())
    });
}

/// Removes the pool, if there is one.
pub(super) fn remove_pool(client: &Client) {
    let answer = client.delete(&format!("/v1/snapshots/{SNAPSHOT}/pool?wait=60"));
    assert!([200, 202, 204, 404].contains(&answer.status), "{answer:?}");
}
