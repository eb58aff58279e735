//! `bench api`: the manager. From a request to a machine's first exec, lists, cheap calls, and memory.

mod calls;
mod direct;
mod figures;
mod first_exec;
mod page;
mod records;

use std::path::PathBuf;

use anyhow::Result;
use e2e::{Client, Manager};
use serde_json::json;

use super::lab::{IMAGE, Lab, Site};
use super::report::{Report, SaveOptions};
use super::{announce, host, kernel};
use figures::Api;
use first_exec::Origin;

/// The published page.
pub(super) const REPORT: Report<Api> = Report {
    samples: "docs/reference/benchmarks/api.json",
    page: "docs/reference/benchmarks-api.md",
    render: page::render,
};

/// Clients at a time.
const CLIENTS: [usize; 3] = [1, 4, 16];
/// The tag of the snapshot that machines are cloned from.
const SNAPSHOT: &str = "base";
/// Clones that the pool keeps ready.
const POOL: usize = 16;

/// Options of `bench api`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Machines for each origin and number of clients
    #[arg(long, default_value_t = 48, value_name = "N")]
    machines: usize,
    /// Records for the lists
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    records: usize,
    /// Take only a few samples, as a smoke test
    #[arg(long, conflicts_with_all = ["machines", "records"])]
    quick: bool,
    /// Link Debian's kernel from this home instead of fetching it
    #[arg(long, value_name = "HOME")]
    debian_kernel: Option<PathBuf>,
    #[command(flatten)]
    save: SaveOptions,
}

/// Measures everything and prints the table.
pub(super) fn measure(options: &Options) -> Result<()> {
    let (machines, records) = if options.quick { (16, 1000) } else { (options.machines, options.records) };
    let lab = Lab::new()?;
    let site = kernel::debian(&lab, options.debian_kernel.as_deref())?;
    site.pull()?;
    site.mimeo(&["setup"])?;
    let mut api = Api::new(host::describe()?, site.kernel.clone(), records);
    let manager = manager_of(&site);
    let client = manager.admin();
    prepare_snapshot(&client);
    for clients in CLIENTS {
        for origin in Origin::ALL {
            announce(&format!("{}, {clients} at once", origin.label()), u32::try_from(machines)?);
            if (origin, clients) == (Origin::Pool, 1) {
                api.starts.extend(direct::measure_both(&site, &client, machines)?);
            } else {
                api.starts.push(first_exec::measure(&client, origin, clients, machines)?);
            }
        }
    }
    first_exec::remove_pool(&client);
    measure_records(&site, manager, &mut api, records)?;
    api.host.load_at_end = host::load();
    println!("{}", page::figures(&api));
    REPORT.save(&options.save, &api)
}

fn manager_of(site: &Site<'_>) -> Manager {
    Manager::spawn(site.command(["manager", "--listen", "127.0.0.1:0", "--rate-limit", "1000000"]))
}

/// A snapshot of a machine that has run for a moment, and a pool of clones.
fn prepare_snapshot(client: &Client) {
    let request = json!({ "name": "source", "image": IMAGE, "command": ["sleep", "1000000"] });
    drop(client.create(&request));
    client.post("/v1/vms/source/snapshots?wait=60", &json!({ "tag": SNAPSHOT })).ok(201);
}

/// Lists, cheap calls and memory, with many records.
fn measure_records(site: &Site<'_>, manager: Manager, api: &mut Api, records: usize) -> Result<()> {
    let token = manager.admin().token().to_owned();
    manager.end();
    records::fill(&site.home().join("mimeo.db"), figures::MEMORY_RECORDS)?;
    let manager = manager_of(site);
    let client = manager.client(&token);
    api.calls = calls::measure(&client)?;
    api.memory_kib = calls::memory_kib(manager.pid())?;
    manager.end();
    records::fill(&site.home().join("mimeo.db"), records)?;
    let manager = manager_of(site);
    api.lists = calls::lists(&manager.client(&token))?;
    manager.end();
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_is_current() {
        super::REPORT.assert_is_current();
    }
}
