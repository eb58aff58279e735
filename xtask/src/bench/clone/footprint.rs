//! The memory of clones of a 512 MiB guest, idle and after some work.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::first_exec::TAG;
use crate::bench::lab::Site;
use crate::bench::result::{Bench, Cost, Footprint};

const NAME: &str = "cost";
const COUNTS: [u32; 3] = [1, 5, 20];
/// Time for the background work of a start to finish.
const SETTLE_TIME: Duration = Duration::from_secs(3);
const WORK: &str = "dd if=/dev/zero of=/written bs=1M count=16 2>/dev/null";
const EXECS: u32 = 3;

/// Measures each number of clones with new clones.
pub(super) fn measure(bench: &mut Bench, site: &Site<'_>) -> Result<()> {
    for count in COUNTS {
        crate::bench::announce("clones and their memory", count);
        let names: Vec<_> = (1..=count).map(|number| name(count, number)).collect();
        let args = ["snapshot", "run", TAG, "--rm", "-n", &count.to_string(), "--name", NAME];
        site.mimeo(&args)?;
        bench.footprints.push(read_footprint(site, &names, false)?);
        names.iter().try_for_each(|name| work(site, name))?;
        bench.footprints.push(read_footprint(site, &names, true)?);
        site.mimeo(&with_names(&["rm", "-f"], &names))?;
    }
    Ok(())
}

fn name(count: u32, number: u32) -> String {
    if count == 1 { NAME.to_owned() } else { format!("{NAME}-{number}") }
}

fn work(site: &Site<'_>, name: &str) -> Result<()> {
    for _ in 0..EXECS {
        site.mimeo(&["exec", name, "true"])?;
    }
    site.mimeo(&["exec", name, "sh", "-c", WORK]).map(drop)
}

fn read_footprint(site: &Site<'_>, names: &[String], worked: bool) -> Result<Footprint> {
    std::thread::sleep(SETTLE_TIME);
    let stats = site.json(&with_names(&["stats", "--no-stream", "--json"], names))?;
    let rows = stats.as_array().context("stats printed no list")?;
    let clones: Option<Vec<_>> = rows.iter().map(cost).collect();
    Ok(Footprint { worked, clones: clones.context("stats lacks a figure")? })
}

fn cost(row: &Value) -> Option<Cost> {
    let bytes = |field: &str| row.get(field)?.as_u64();
    Some(Cost {
        pss: bytes("host_pss_bytes")?,
        unique: bytes("host_unique_bytes")?,
        shared: bytes("host_shared_bytes")?,
        supervisor: bytes("supervisor_pss_bytes")?,
    })
}

fn with_names<'a>(words: &[&'a str], names: &'a [String]) -> Vec<&'a str> {
    words.iter().copied().chain(names.iter().map(String::as_str)).collect()
}
