//! `cargo xtask bench`: how long things take, beside podman in the same run.

mod cold_run;
mod exec_command;
mod exec_session;
mod host;
mod kernel;
mod lab;
mod page;
mod podman;
mod result;
mod samples;
mod soak;
mod stages;
mod stopwatch;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use lab::{Lab, Site};
use podman::Podman;
use result::{Bench, Key};

/// The page that `--publish` writes, and its samples.
const PAGE: &str = "docs/reference/benchmarks.md";
const SAMPLES: &str = "docs/reference/benchmarks/run.json";

/// What is measured for how long.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Chore {
    /// Measure, and print a table
    Run(Options),
    /// Write the page anew from the samples that are kept
    Page,
}

/// How to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Cold runs; commands are run twice and calls twenty times as often
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Three cold runs: to see that it works
    #[arg(long, conflicts_with = "runs")]
    quick: bool,
    /// Boot this often in a row besides, and see that none hangs
    #[arg(long, default_value_t = 0, value_name = "N")]
    soak: u32,
    /// Link Debian's kernel from this home, instead of fetching it
    #[arg(long, value_name = "HOME")]
    debian_kernel: Option<PathBuf>,
    /// Measure the kernel of `mimeo setup kernel --build` too, from this home
    #[arg(long, value_name = "HOME")]
    own_kernel: Option<PathBuf>,
    /// Keep the samples here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the page of the documentation and its samples
    #[arg(long)]
    publish: bool,
}

impl Options {
    fn runs(&self) -> u32 {
        if self.quick { 3 } else { self.runs }
    }
}

/// Does one of the chores.
pub(crate) fn run(chore: Chore) -> Result<()> {
    match chore {
        Chore::Run(options) => measure(&options),
        Chore::Page => write(Path::new(PAGE), &page::of(&read(Path::new(SAMPLES))?)),
    }
}

fn measure(options: &Options) -> Result<()> {
    let mut bench = Bench::new(host::describe()?);
    let lab = Lab::new()?;
    if host::is_newer_than(lab.program())? {
        bench.note("The program that was measured is older than the commit named here.".to_owned());
    }
    let podman = podman(&lab, &mut bench);
    let sites = sites(&lab, options, &mut bench)?;
    cold_run::measure(&mut bench, &sites, podman.as_ref(), options.runs())?;
    stages::measure(&mut bench, &sites, options.runs())?;
    exec_command::measure(&mut bench, &sites[0], podman.as_ref(), options.runs() * 2)?;
    exec_session::measure(&mut bench, &sites[0], options.runs() * 20)?;
    for site in &sites {
        soak::measure(&mut bench, site, options.soak)?;
    }
    bench.host.load_at_end = host::load();
    println!("\n{}", table::text(&bench));
    keep(options, &bench)
}

/// podman, or a note that says why not.
fn podman(lab: &Lab, bench: &mut Bench) -> Option<Podman> {
    match Podman::new(lab) {
        Ok(podman) => {
            bench.podman = Some(podman.told());
            Some(podman)
        }
        Err(why) => {
            bench.note(format!("Podman was not measured: {why:#}."));
            None
        }
    }
}

/// A home for each kernel, Debian's first.
fn sites<'a>(lab: &'a Lab, options: &Options, bench: &mut Bench) -> Result<Vec<Site<'a>>> {
    let debian = kernel::debian(lab, options.debian_kernel.as_deref())?;
    let mut sites = vec![debian];
    match &options.own_kernel {
        Some(home) => sites.push(kernel::own(lab, home)?),
        None => bench.note(
            "The kernel of our own was not measured: `MIMEO_HOME=DIR mimeo setup kernel --build` makes one in \
             some minutes, `--own-kernel DIR` measures it."
                .to_owned(),
        ),
    }
    for site in &sites {
        bench.kernels.push((site.key, site.kernel.clone()));
        site.pull()?;
        // Not counted: it brings the accelerator's verdict and the template of
        // the writable disk.
        cold_run::once(site).context("the first run")?;
    }
    bench.accelerator = sites[0].accelerator()?;
    Ok(sites)
}

fn keep(options: &Options, bench: &Bench) -> Result<()> {
    let samples = serde_json::to_string(bench)? + "\n";
    if let Some(path) = &options.json {
        write(path, &samples)?;
    }
    if options.publish {
        write(Path::new(SAMPLES), &samples)?;
        write(Path::new(PAGE), &page::of(bench))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Bench> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(path, text).with_context(|| path.display().to_string())?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

/// Says what is measured now: minutes pass.
fn announce(what: &str, count: u32) {
    eprintln!("{what}: {count} …");
}

/// The keys of Debian's kernel and of our own.
const DEBIAN: Key = Key::MimeoDebian;
const OWN: Key = Key::MimeoOwn;
