//! `bench whole`: all of a machine's life on one driver, each step with its time, beside plain cold boots of the same guest.
//!
//! It is how mimeo is measured on KVM where there is only an emulated host (`cargo xtask kvm-host run -- …`): times in
//! there mean nothing, ratios do.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use mimeo_engine::Engine;
use mimeo_engine::launch_request::CloneOverrides;
use mimeo_engine::serve;
use serde_json::Value;

use super::clone::{first_exec, poller, pool};
use super::guest::Session;
use super::lab::{IMAGE, Lab, Site};
use super::stopwatch::{self, millis};
use super::{host, kernel};

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The driver of the machines
    #[arg(long, default_value = "qemu")]
    driver: String,
    /// Link the kernel from this home, instead of fetching it
    #[arg(long, value_name = "HOME")]
    debian_kernel: Option<PathBuf>,
    /// How often each step that has a bar is measured
    #[arg(long, default_value_t = 5)]
    runs: u32,
}

/// Shares of a plain cold boot that are aimed at.
const WARM_RUN_BAR: f64 = 0.5;
const CLONE_BAR: f64 = 0.35;
const PAUSE_BAR: f64 = 0.1;
const CLONES: usize = 10;
const PAGE: &str = "mkdir /www; hostname > /www/index.html; exec httpd -f -p 80 -h /www";
/// What makes a clone itself, one value a line.
const IDENTITY: &str = "hostname; cat /etc/machine-id; ip link show eth0 | awk '/ether/ { print $2 }'; \
                        head -c 16 /dev/urandom | md5sum; head -n 1 /run/mimeo/generation";

/// Goes the whole way, and prints it.
pub(super) fn measure(options: &Options) -> Result<()> {
    let lab = Lab::new()?;
    let site = kernel::debian(&lab, options.debian_kernel.as_deref())?;
    let described = host::describe()?;
    println!("{}; Linux {}; {}", described.processor, described.kernel, site.kernel);
    site.pull()?;
    let way = Way { site: &site, driver: &options.driver, runs: options.runs };
    // Not counted: the first tries KVM, and makes what all machines share.
    way.run(&["--cold", "--rm"], &["echo", "cold"])?;
    let mut plain = way.cold()?;
    let warm = way.warm()?;
    way.service()?;
    let clone = way.clones()?;
    let pause = way.forks()?;
    way.pool()?;
    // Again: what emulates a host is quicker once it knows the way.
    plain.extend(way.cold()?);
    way.end()?;
    let boot = median(&plain);
    println!("plain cold boot (launch to the agent's first answer): {boot:.0} ms of {}", list(&plain));
    for (what, took, bar) in [
        ("warm run", warm, WARM_RUN_BAR),
        ("clone to its first exec", clone, CLONE_BAR),
        ("pause of a fork", pause, PAUSE_BAR),
    ] {
        let middle = median(&took);
        println!("{what}: {middle:.0} ms of {}, {:.3} x (bar {bar} x)", list(&took), middle / boot);
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Way<'a> {
    site: &'a Site<'a>,
    driver: &'a str,
    runs: u32,
}

impl Way<'_> {
    /// Runs `mimeo`, and prints what it took.
    fn step(&self, args: &[&str]) -> Result<(String, f64)> {
        let begun = Instant::now();
        let printed = self.site.mimeo(args)?;
        let took = millis(begun);
        say(took, &format!("mimeo {}", args.join(" ")));
        Ok((printed, took))
    }

    fn run(&self, options: &[&str], words: &[&str]) -> Result<(String, f64)> {
        self.step(&[&["run", "--driver", self.driver], options, &[IMAGE], words].concat())
    }

    /// Plain cold boots: from the start of the VMM to the agent's first answer.
    fn cold(&self) -> Result<Vec<f64>> {
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

    fn warm(&self) -> Result<Vec<f64>> {
        // Not counted: it makes the runtime snapshot.
        self.run(&["--rm"], &["echo", "first"])?;
        let runs = (0..self.runs).map(|_| {
            let (printed, took) = self.run(&["--name", "warm"], &["echo", "warm"])?;
            ensure!(printed == "warm", "printed {printed:?}");
            let method = self.inspect("warm", "/0/BootMethod")?;
            ensure!(method == "warm", "it is {method}: {}", self.inspect("warm", "/0/BootReason")?);
            self.site.stop("warm")?;
            Ok(took)
        });
        runs.collect()
    }

    /// A machine with a port, a snapshot of it, and that it goes on.
    fn service(&self) -> Result<()> {
        self.run(&["-d", "--name", "web", "-p", "127.0.0.1::80"], &["sh", "-c", PAGE])?;
        self.stages("web")?;
        let method = self.inspect("web", "/0/BootMethod")?;
        ensure!(method == "warm", "it is {method}: {}", self.inspect("web", "/0/BootReason")?);
        let address = self.site.mimeo(&["port", "web", "80"])?;
        poller::wait_for(&address)?;
        self.timed("a page from its port", || poller::wait_for(&address))?;
        self.step(&["exec", "web", "true"])?;
        self.step(&["exec", "web", "true"])?;
        self.step(&["snapshot", "create", "web", "--tag", first_exec::TAG])?;
        let told = self.site.json(&["snapshot", "inspect", first_exec::TAG])?;
        let pause = told.pointer("/0/pause_micros").and_then(Value::as_f64).context("no pause is told")?;
        say(pause / 1000.0, "of it the source stood still");
        self.step(&["exec", "web", "true"])?;
        self.timed("a page from its port", || poller::wait_for(&address))
    }

    /// Clones one after the other, and ten at once with their identities.
    fn clones(&self) -> Result<Vec<f64>> {
        let (runtime, engine) = (stopwatch::runtime()?, self.site.engine()?);
        let snapshot = engine.snapshots().find(first_exec::TAG)?;
        // Not counted: it lays the memory out.
        self.step(&["snapshot", "run", first_exec::TAG, "--rm", "--name", "laid"])?;
        self.site.stop("laid")?;
        let mut clones = Vec::new();
        for _ in 0..self.runs {
            let (took, stages) = runtime.block_on(first_exec::one(self.site, &engine, &snapshot))?;
            say(took, "a clone to its first exec, by the engine");
            print_stages(stages.iter().map(|(stage, took)| (stage.as_str(), *took as f64)));
            clones.push(took);
        }
        let commands = first_exec::commands(self.site, &["snapshot", "run", first_exec::TAG])?;
        say(commands, "a clone to its first exec, by two commands");
        let many = CLONES.to_string();
        self.step(&["snapshot", "run", first_exec::TAG, "-n", &many, "--name", "clone"])?;
        let mut values = BTreeSet::new();
        for number in 1..=CLONES {
            let name = format!("clone-{number}");
            let identity = self.site.mimeo(&["exec", &name, "sh", "-c", IDENTITY])?;
            let own: Vec<_> = identity.lines().map(str::to_owned).collect();
            println!("            {name}: {}", own.join(" "));
            ensure!(own.len() == 5, "{name} has not said all: {identity}");
            values.extend(own);
        }
        ensure!(values.len() == CLONES * 5, "two clones share a part of their identity");
        Ok(clones)
    }

    /// Forks of one source; how long it stood still.
    fn forks(&self) -> Result<Vec<f64>> {
        let mut pauses = Vec::new();
        for number in 0..self.runs {
            let name = format!("fork{number}");
            let (told, _) = self.step(&["fork", "web", "-n", "1", "--name", &name, "--json"])?;
            let told: Value = serde_json::from_str(&told)?;
            let pause = told.get("pause_ms").and_then(Value::as_f64).context("no pause was told")?;
            say(pause, "of it the source stood still");
            pauses.push(pause);
        }
        self.step(&["fork", "web", "-n", "4", "--name", "child"])?;
        self.step(&["exec", "child-4", "true"])?;
        self.step(&["exec", "web", "true"])?;
        Ok(pauses)
    }

    /// A clone that a pool had ready.
    fn pool(&self) -> Result<()> {
        let (runtime, engine) = (stopwatch::runtime()?, self.site.engine()?);
        let server = pool::Server::start(self.site)?;
        let record = serve::find(&engine, &server.pid())?;
        for _ in 0..2 {
            server.fill()?;
            let took = runtime.block_on(claim(&engine, &record))?;
            say(took, "a clone from a pool of two to its first exec, by the engine");
        }
        Ok(())
    }

    /// Ends all, and looks for what is left.
    fn end(&self) -> Result<()> {
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

    fn timed(&self, what: &str, act: impl FnOnce() -> Result<()>) -> Result<()> {
        let begun = Instant::now();
        act()?;
        say(millis(begun), what);
        Ok(())
    }

    fn inspect(&self, name: &str, pointer: &str) -> Result<String> {
        let told = self.site.json(&["inspect", name])?;
        let found = told.pointer(pointer).with_context(|| format!("no {pointer}: {told}"))?;
        Ok(found.as_str().map_or_else(|| found.to_string(), str::to_owned))
    }

    fn stages(&self, name: &str) -> Result<Vec<(String, f64)>> {
        let told = self.site.json(&["inspect", name])?;
        let stages = told.pointer("/0/Stages").and_then(Value::as_array).context("no stages")?;
        let stage =
            |stage: &Value| Some((stage["Stage"].as_str()?.to_owned(), stage["Milliseconds"].as_f64()?));
        let stages: Vec<_> = stages.iter().filter_map(stage).collect();
        print_stages(stages.iter().map(|(stage, took)| (stage.as_str(), *took)));
        Ok(stages)
    }
}

async fn claim(engine: &Engine, record: &serve::ServeRecord) -> Result<f64> {
    let begun = Instant::now();
    let wishes = CloneOverrides { remove: true, ..CloneOverrides::default() };
    let cloned = serve::run(record, vec![wishes]).await?.pop().context("one was asked for")?;
    Session::with(engine, cloned.outcome?.name.as_str()).await?.exec().await?;
    Ok(millis(begun))
}

fn say(took: f64, what: &str) {
    println!("{took:>8.0} ms {what}");
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
