//! `bench whole`: a machine's whole lifecycle on one driver, with the time of each step, compared with plain cold boots of
//! the same guest.
//!
//! This is how mimeo is measured with KVM in the emulated host (`cargo xtask kvm-host run -- …`), where only ratios are
//! meaningful, not times.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use mimeo_engine::Engine;
use mimeo_engine::launch_request::CloneOverrides;
use mimeo_engine::snapshot_server;
use serde_json::Value;

use super::clone::{first_exec, poller, pool};
use super::guest::Session;
use super::lab::{IMAGE, Lab, Site};
use super::stopwatch::{self, millis};
use super::{host, kernel};

/// Options of `bench whole`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The machines' driver
    #[arg(long, default_value = "qemu")]
    driver: String,
    /// Link the kernel from this home instead of fetching it
    #[arg(long, value_name = "HOME")]
    debian_kernel: Option<PathBuf>,
    /// How often each step with a target is measured
    #[arg(long, default_value_t = 5)]
    runs: u32,
}

/// Targets, relative to a plain cold boot.
const WARM_RUN_TARGET: f64 = 0.5;
const CLONE_TARGET: f64 = 0.35;
const PAUSE_TARGET: f64 = 0.1;
const CLONES: usize = 10;
const PAGE: &str = "mkdir /www; hostname > /www/index.html; exec httpd -f -p 80 -h /www";
/// Prints a clone's identity, one value per line.
const IDENTITY: &str = "hostname; cat /etc/machine-id; ip link show eth0 | awk '/ether/ { print $2 }'; \
                        head -c 16 /dev/urandom | md5sum; head -n 1 /run/mimeo/generation";

/// Runs the lifecycle and prints all times.
pub(super) fn measure(options: &Options) -> Result<()> {
    let lab = Lab::new()?;
    let site = kernel::debian(&lab, options.debian_kernel.as_deref())?;
    let described = host::describe()?;
    println!("{}; Linux {}; {}", described.processor, described.kernel, site.kernel);
    site.pull()?;
    let lifecycle = Lifecycle { site: &site, driver: &options.driver, runs: options.runs };
    // Not counted: the first run tests KVM and makes what all machines share.
    lifecycle.run(&["--cold", "--rm"], &["echo", "cold"])?;
    let mut plain = lifecycle.cold_boots()?;
    let warm = lifecycle.warm_runs()?;
    lifecycle.service()?;
    let clone = lifecycle.clones()?;
    let pause = lifecycle.forks()?;
    lifecycle.pool()?;
    // Again at the end: an emulated host gets faster once its code is translated.
    plain.extend(lifecycle.cold_boots()?);
    lifecycle.clean_up()?;
    let boot = median(&plain);
    println!("plain cold boot (launch to the agent's hello): {boot:.0} ms of {}", list(&plain));
    for (name, took, target) in [
        ("warm run", warm, WARM_RUN_TARGET),
        ("clone to its first exec", clone, CLONE_TARGET),
        ("pause of a fork", pause, PAUSE_TARGET),
    ] {
        let middle = median(&took);
        println!("{name}: {middle:.0} ms of {}, {:.3} x (target {target} x)", list(&took), middle / boot);
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Lifecycle<'a> {
    site: &'a Site<'a>,
    driver: &'a str,
    runs: u32,
}

impl Lifecycle<'_> {
    /// Runs `mimeo` and prints the time it took.
    fn step(&self, args: &[&str]) -> Result<(String, f64)> {
        let begun = Instant::now();
        let printed = self.site.mimeo(args)?;
        let took = millis(begun);
        print_time(took, &format!("mimeo {}", args.join(" ")));
        Ok((printed, took))
    }

    fn run(&self, options: &[&str], words: &[&str]) -> Result<(String, f64)> {
        self.step(&[&["run", "--driver", self.driver], options, &[IMAGE], words].concat())
    }

    /// Plain cold boots: from the start of the VMM to the agent's hello.
    fn cold_boots(&self) -> Result<Vec<f64>> {
        let mut boots = Vec::new();
        for _ in 0..self.runs {
            self.run(&["--cold", "-d", "--name", "cold"], &["sleep", "1000"])?;
            let stages = self.stages("cold")?;
            let boot = stages.iter().filter(|(stage, _)| stage == "launch" || stage == "boot");
            boots.push(boot.map(|(_, millis)| millis).sum());
            self.site.stop("cold")?;
        }
        Ok(boots)
    }

    fn warm_runs(&self) -> Result<Vec<f64>> {
        // Not counted: it makes the boot snapshot.
        self.run(&["--rm"], &["echo", "first"])?;
        let runs = (0..self.runs).map(|_| {
            let (printed, took) = self.run(&["--name", "warm"], &["echo", "warm"])?;
            ensure!(printed == "warm", "printed {printed:?}");
            let method = self.inspect("warm", "/0/BootMethod")?;
            ensure!(method == "warm", "BootMethod is {method}: {}", self.inspect("warm", "/0/BootReason")?);
            self.site.stop("warm")?;
            Ok(took)
        });
        runs.collect()
    }

    /// Runs a machine with a published port and takes a snapshot; the machine must keep serving.
    fn service(&self) -> Result<()> {
        self.run(&["-d", "--name", "web", "-p", "127.0.0.1::80"], &["sh", "-c", PAGE])?;
        self.stages("web")?;
        let method = self.inspect("web", "/0/BootMethod")?;
        ensure!(method == "warm", "BootMethod is {method}: {}", self.inspect("web", "/0/BootReason")?);
        let address = self.site.mimeo(&["port", "web", "80"])?;
        poller::wait_for(&address)?;
        self.timed("fetch the page from the published port", || poller::wait_for(&address))?;
        self.step(&["exec", "web", "true"])?;
        self.step(&["exec", "web", "true"])?;
        self.step(&["snapshot", "create", "web", "--tag", first_exec::TAG])?;
        let manifest = self.site.json(&["snapshot", "inspect", first_exec::TAG])?;
        let pause = manifest
            .pointer("/0/pause_micros")
            .and_then(Value::as_f64)
            .context("the manifest has no pause_micros")?;
        print_time(pause / 1000.0, "of this, pause of the source");
        self.step(&["exec", "web", "true"])?;
        self.timed("fetch the page from the published port", || poller::wait_for(&address))
    }

    /// Starts clones one after the other, then ten at once, and compares their identities.
    fn clones(&self) -> Result<Vec<f64>> {
        let (runtime, engine) = (stopwatch::runtime()?, self.site.engine()?);
        let snapshot = engine.snapshots().find(first_exec::TAG)?;
        // Not counted: it flattens the memory.
        self.step(&["snapshot", "run", first_exec::TAG, "--rm", "--name", "uncounted"])?;
        self.site.stop("uncounted")?;
        let mut clones = Vec::new();
        for _ in 0..self.runs {
            let (took, stages) =
                runtime.block_on(first_exec::start_and_exec(self.site, &engine, &snapshot))?;
            print_time(took, "clone to its first exec, started by the engine");
            print_stages(stages.iter().map(|(stage, took)| (stage.as_str(), *took as f64)));
            clones.push(took);
        }
        let commands = first_exec::commands(self.site, &["snapshot", "run", first_exec::TAG])?;
        print_time(commands, "clone to its first exec, started by two commands");
        let many = CLONES.to_string();
        self.step(&["snapshot", "run", first_exec::TAG, "-n", &many, "--name", "clone"])?;
        let mut values = BTreeSet::new();
        for number in 1..=CLONES {
            let name = format!("clone-{number}");
            let identity = self.site.mimeo(&["exec", &name, "sh", "-c", IDENTITY])?;
            let parts: Vec<_> = identity.lines().map(str::to_owned).collect();
            println!("            {name}: {}", parts.join(" "));
            ensure!(parts.len() == 5, "{name}: incomplete identity: {identity}");
            values.extend(parts);
        }
        ensure!(values.len() == CLONES * 5, "two clones share a part of their identity");
        Ok(clones)
    }

    /// Forks one source several times; returns its pauses.
    fn forks(&self) -> Result<Vec<f64>> {
        let mut pauses = Vec::new();
        for number in 0..self.runs {
            let name = format!("fork{number}");
            let (output, _) = self.step(&["fork", "web", "-n", "1", "--name", &name, "--json"])?;
            let forked: Value = serde_json::from_str(&output)?;
            let pause =
                forked.get("pause_ms").and_then(Value::as_f64).context("fork --json has no pause_ms")?;
            print_time(pause, "of this, pause of the source");
            pauses.push(pause);
        }
        self.step(&["fork", "web", "-n", "4", "--name", "fork"])?;
        self.step(&["exec", "fork-4", "true"])?;
        self.step(&["exec", "web", "true"])?;
        Ok(pauses)
    }

    /// Starts clones from a pool.
    fn pool(&self) -> Result<()> {
        let (runtime, engine) = (stopwatch::runtime()?, self.site.engine()?);
        let server = pool::Server::start(self.site)?;
        let record = snapshot_server::find(&engine, &server.pid())?;
        for _ in 0..2 {
            server.wait_until_full()?;
            let took = runtime.block_on(claim(&engine, &record))?;
            print_time(took, "clone from a pool of two to its first exec, requested by the engine");
        }
        Ok(())
    }

    /// Removes all machines and checks that nothing is left.
    fn clean_up(&self) -> Result<()> {
        self.step(&["rm", "-f", "-a"])?;
        ensure!(self.site.mimeo(&["ps", "-a", "-q"])?.is_empty(), "machines are left");
        for dir in ["home/machines", "run/machines", "run/serves", "home/forks"] {
            let dir = self.site.home().with_file_name("").join(dir);
            let left = std::fs::read_dir(&dir).into_iter().flatten().count();
            ensure!(left == 0, "{} holds {left} entries", dir.display());
        }
        println!("            nothing is left");
        Ok(())
    }

    fn timed(&self, step: &str, act: impl FnOnce() -> Result<()>) -> Result<()> {
        let begun = Instant::now();
        act()?;
        print_time(millis(begun), step);
        Ok(())
    }

    fn inspect(&self, name: &str, pointer: &str) -> Result<String> {
        let document = self.site.json(&["inspect", name])?;
        let found = document.pointer(pointer).with_context(|| format!("no {pointer}: {document}"))?;
        Ok(found.as_str().map_or_else(|| found.to_string(), str::to_owned))
    }

    fn stages(&self, name: &str) -> Result<Vec<(String, f64)>> {
        let document = self.site.json(&["inspect", name])?;
        let stages =
            document.pointer("/0/Stages").and_then(Value::as_array).context("inspect shows no stages")?;
        let stage =
            |stage: &Value| Some((stage["Stage"].as_str()?.to_owned(), stage["Milliseconds"].as_f64()?));
        let stages: Vec<_> = stages.iter().filter_map(stage).collect();
        print_stages(stages.iter().map(|(stage, took)| (stage.as_str(), *took)));
        Ok(stages)
    }
}

async fn claim(engine: &Engine, record: &snapshot_server::ServeRecord) -> Result<f64> {
    let begun = Instant::now();
    let overrides = CloneOverrides { remove: true, ..CloneOverrides::default() };
    let cloned = snapshot_server::start_clones(record, vec![overrides])
        .await?
        .pop()
        .context("the server returned no clone")?;
    Session::connect(engine, cloned.outcome?.name.as_str()).await?.exec().await?;
    Ok(millis(begun))
}

fn print_time(took: f64, step: &str) {
    println!("{took:>8.0} ms {step}");
}

fn print_stages<'a>(stages: impl Iterator<Item = (&'a str, f64)>) {
    let stages: Vec<_> = stages.map(|(stage, took)| format!("{stage} {took:.0}")).collect();
    println!("            {}", stages.join(", "));
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn list(samples: &[f64]) -> String {
    samples.iter().map(|sample| format!("{sample:.0}")).collect::<Vec<_>>().join(" ")
}
