//! Forks the running nginx into ten clones.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{NAME, fetch};
use crate::narrate::{mimeo_output, show, step};

const CLONE: &str = "mimeo-demo-clone";
const COUNT: usize = 10;
/// Prints a machine's identity, as seen from inside.
const IDENTITY: &str = "hostname; cat /etc/machine-id /run/mimeo/generation /sys/class/net/eth0/address";
const HEADINGS: [&str; 5] = ["HOST NAME", "MACHINE-ID", "VM GENERATION", "MAC", "IP"];

/// A clone, from the output of `fork --json`.
struct DemoClone {
    name: String,
    ip: String,
    /// The host address of its page.
    address: String,
}

/// Forks the machine, and shows that its clones serve pages and have distinct identities.
pub(super) fn show_clones() -> Result<()> {
    let clones = step("Fork it into ten, while it runs", fork)?;
    step("Fetch the page from each, through its own port", || {
        clones.iter().try_for_each(|clone| {
            ensure!(fetch(&clone.address)?.contains("nginx"), "{}: not nginx's page", clone.name);
            println!("   http://{}/ is {}'s", clone.address, clone.name);
            Ok(())
        })
    })?;
    step("Print each clone's identity: all values differ", || show_identities(&clones))?;
    step("Show their memory: unique to each, and shared by all", || {
        let words = ["stats", "--no-stream"].into_iter().map(str::to_owned);
        let args: Vec<_> = words.chain(names()).collect();
        show(&args.iter().map(String::as_str).collect::<Vec<_>>())
    })
}

/// Removes the clones and the snapshot of the fork.
pub(super) fn remove_clones() -> Result<()> {
    let snapshots: BTreeSet<_> = names().filter_map(|name| origin(&name)).collect();
    let words = ["rm", "--force"].into_iter().map(str::to_owned);
    let args: Vec<_> = words.chain(names()).collect();
    mimeo_output(&args.iter().map(String::as_str).collect::<Vec<_>>())?;
    snapshots.iter().try_for_each(|snapshot| mimeo_output(&["snapshot", "rm", snapshot]).map(drop))
}

fn names() -> impl Iterator<Item = String> {
    (1..=COUNT).map(|number| format!("{CLONE}-{number}"))
}

/// The snapshot that a clone was started from; `None` if there is no such clone.
fn origin(name: &str) -> Option<String> {
    let document: Value = serde_json::from_str(&mimeo_output(&["inspect", name]).ok()?).ok()?;
    Some(document.pointer("/0/Origin")?.as_str()?.to_owned())
}

fn fork() -> Result<Vec<DemoClone>> {
    let count = COUNT.to_string();
    println!("$ mimeo fork {NAME} -n {count} --name {CLONE} --json");
    let begun = Instant::now();
    let output = mimeo_output(&["fork", NAME, "-n", &count, "--name", CLONE, "--json"])?;
    let forked: Value = serde_json::from_str(&output)?;
    let took = begun.elapsed().as_millis();
    let clones: Option<Vec<_>> =
        forked.get("clones").and_then(Value::as_array).and_then(|all| all.iter().map(parse_clone).collect());
    let clones = clones.with_context(|| forked.to_string())?;
    ensure!(clones.len() == COUNT, "{} clones instead of {COUNT}", clones.len());
    let pause = forked.get("pause_ms").and_then(Value::as_f64).context("fork --json has no pause_ms")?;
    println!("   {COUNT} clones run after {took} ms; the source was paused for {pause:.1} ms");
    Ok(clones)
}

fn parse_clone(json: &Value) -> Option<DemoClone> {
    let text = |at: &str| json.pointer(at)?.as_str().map(str::to_owned);
    let port = json.pointer("/ports/0/host_port")?.as_u64()?;
    let address = format!("{}:{port}", text("/ports/0/host_ip")?);
    Some(DemoClone { name: text("/name")?, ip: text("/ip")?, address })
}

/// Shows each clone's identity, and fails if two clones share a value.
fn show_identities(clones: &[DemoClone]) -> Result<()> {
    println!("$ mimeo exec … sh -c '{IDENTITY}'");
    let mut rows = Vec::new();
    for DemoClone { name, ip, .. } in clones {
        let output = mimeo_output(&["exec", name, "sh", "-c", IDENTITY])?;
        let values: Vec<_> = output.lines().map(str::to_owned).chain([ip.clone()]).collect();
        ensure!(values.len() == HEADINGS.len(), "{name} printed {values:?}");
        rows.push(values);
    }
    print(&rows);
    for (column, heading) in HEADINGS.iter().enumerate() {
        let different: BTreeSet<_> = rows.iter().filter_map(|row| row.get(column)).collect();
        ensure!(different.len() == rows.len(), "two clones have the same {heading}");
    }
    Ok(())
}

fn print(rows: &[Vec<String>]) {
    let headings = HEADINGS.map(str::to_owned).to_vec();
    for row in std::iter::once(&headings).chain(rows) {
        let [name, machine, generation, mac, ip] = &row[..] else { continue };
        println!("   {name:12}  {machine:32}  {generation:36}  {mac:17}  {ip}");
    }
}
