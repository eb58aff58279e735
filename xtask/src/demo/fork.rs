//! Ten copies of the nginx that runs, each a machine of its own.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{NAME, fetch};
use crate::narrate::{quiet, show, step};

const COPY: &str = "mimeo-demo-copy";
const COUNT: usize = 10;
/// What tells a machine from another, as the machine itself sees it.
const WHO: &str = "hostname; cat /etc/machine-id /run/mimeo/generation /sys/class/net/eth0/address";
const HEADINGS: [&str; 5] = ["HOST NAME", "MACHINE-ID", "GENERATION", "MAC", "IP"];

/// A copy, as `fork` tells of it.
struct Copy {
    name: String,
    ip: String,
    /// Where its page is.
    address: String,
}

/// Forks the machine, and shows that its copies serve and are not the same.
pub(super) fn show_copies() -> Result<()> {
    let copies = step("Fork it into ten, while it runs", fork)?;
    step("Fetch the page from each, through a port of its own", || {
        copies.iter().try_for_each(|copy| {
            ensure!(fetch(&copy.address)?.contains("nginx"), "{}: not nginx's page", copy.name);
            println!("   http://{}/ is {}'s", copy.address, copy.name);
            Ok(())
        })
    })?;
    step("Ask each who it is: no two agree on anything", || identities(&copies))?;
    step("Their memory: what each holds alone, and what all of them share", || {
        let words = ["stats", "--no-stream"].into_iter().map(str::to_owned);
        let args: Vec<_> = words.chain(names()).collect();
        show(&args.iter().map(String::as_str).collect::<Vec<_>>())
    })
}

/// Removes the copies, and what they began as.
pub(super) fn clear_away() -> Result<()> {
    let of: BTreeSet<_> = names().filter_map(|name| origin(&name)).collect();
    let words = ["rm", "--force"].into_iter().map(str::to_owned);
    let args: Vec<_> = words.chain(names()).collect();
    quiet(&args.iter().map(String::as_str).collect::<Vec<_>>())?;
    of.iter().try_for_each(|snapshot| quiet(&["snapshot", "rm", snapshot]).map(drop))
}

fn names() -> impl Iterator<Item = String> {
    (1..=COUNT).map(|number| format!("{COPY}-{number}"))
}

/// The snapshot that a copy's memory began as, if there is such a copy.
fn origin(name: &str) -> Option<String> {
    let told: Value = serde_json::from_str(&quiet(&["inspect", name]).ok()?).ok()?;
    Some(told.pointer("/0/Origin")?.as_str()?.to_owned())
}

fn fork() -> Result<Vec<Copy>> {
    let count = COUNT.to_string();
    println!("$ mimeo fork {NAME} -n {count} --name {COPY} --json");
    let begun = Instant::now();
    let told: Value = serde_json::from_str(&quiet(&["fork", NAME, "-n", &count, "--name", COPY, "--json"])?)?;
    let took = begun.elapsed().as_millis();
    let copies: Option<Vec<_>> =
        told.get("children").and_then(Value::as_array).and_then(|all| all.iter().map(copy).collect());
    let copies = copies.with_context(|| told.to_string())?;
    ensure!(copies.len() == COUNT, "{} copies instead of {COUNT}", copies.len());
    let pause = told.get("pause_ms").and_then(Value::as_f64).context("no pause was told")?;
    println!("   {COUNT} copies run after {took} ms; the source stood still for {pause:.1} ms");
    Ok(copies)
}

fn copy(told: &Value) -> Option<Copy> {
    let text = |at: &str| told.pointer(at)?.as_str().map(str::to_owned);
    let port = told.pointer("/ports/0/host_port")?.as_u64()?;
    let address = format!("{}:{port}", text("/ports/0/host_ip")?);
    Some(Copy { name: text("/name")?, ip: text("/ip")?, address })
}

/// Shows what the source and each copy say of themselves; no two may say the same.
fn identities(copies: &[Copy]) -> Result<()> {
    println!("$ mimeo exec … sh -c '{WHO}'");
    let mut rows = Vec::new();
    for Copy { name, ip, .. } in copies {
        let told = quiet(&["exec", name, "sh", "-c", WHO])?;
        let told: Vec<_> = told.lines().map(str::to_owned).chain([ip.clone()]).collect();
        ensure!(told.len() == HEADINGS.len(), "{name} says {told:?}");
        rows.push(told);
    }
    print(&rows);
    for (column, heading) in HEADINGS.iter().enumerate() {
        let different: BTreeSet<_> = rows.iter().filter_map(|row| row.get(column)).collect();
        ensure!(different.len() == rows.len(), "two copies have the same {heading}");
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
