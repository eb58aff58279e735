//! `cargo xtask bench`: benchmarks, with podman measured in the same run.

mod api;
mod clone;
mod cold_run;
mod exec_command;
mod exec_session;
mod guest;
mod host;
mod kernel;
mod lab;
mod lifecycle;
mod net;
mod pager;
mod plot;
mod podman;
mod report;
mod result;
mod run;
mod samples;
mod soak;
mod stages;
mod stopwatch;
mod table;
mod volumes;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub(crate) use lab::link_tree;
use lab::{Lab, Site};
use podman::Podman;
use result::{Bench, Subject};

/// The benchmarks.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Chore {
    /// Cold runs and execs, compared with podman
    Run(run::Options),
    /// Snapshots: warm runs, clones, pools, forks, and their memory
    Clone(clone::Options),
    /// The manager: machines over HTTP, lists, cheap calls, memory
    Api(api::Options),
    /// Networks: rootless, bridged, and the host's loopback
    Net(net::Options),
    /// Shared directories, compared with podman's bind mounts
    Volumes(volumes::Options),
    /// The page server, compared with a bare loop, and the memory that sharing saves
    Pager(pager::Options),
    /// A machine's whole lifecycle on one driver, compared with plain cold boots
    #[command(name = "whole")]
    Lifecycle(lifecycle::Options),
    /// One clone process of `bench pager`
    #[command(hide = true)]
    PagerClone(pager::CloneOptions),
    /// Regenerate the documentation pages from the committed samples
    Page,
}

/// Options of several benchmarks.
#[derive(Debug, clap::Args)]
struct Common {
    /// Take only a few samples, as a smoke test
    #[arg(long, conflicts_with = "runs")]
    quick: bool,
    /// Link Debian's kernel from this home instead of fetching it
    #[arg(long, value_name = "HOME")]
    debian_kernel: Option<PathBuf>,
    /// Also measure the kernel that `mimeo setup kernel --build` made in this home
    #[arg(long, value_name = "HOME")]
    own_kernel: Option<PathBuf>,
    /// Write the samples to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the documentation page and its samples
    #[arg(long)]
    publish: bool,
}

/// Documentation files that are generated from samples.
struct Page {
    samples: &'static str,
    files: &'static [(&'static str, Renderer)],
}

/// Renders a file's content from samples.
type Renderer = fn(&Bench) -> String;

/// Runs one benchmark.
pub(crate) fn run(chore: Chore) -> Result<()> {
    match chore {
        Chore::Run(options) => run::measure(&options),
        Chore::Clone(options) => clone::measure(&options),
        Chore::Net(options) => net::measure(&options),
        Chore::Api(options) => api::measure(&options),
        Chore::Volumes(options) => volumes::measure(&options),
        Chore::Pager(options) => pager::measure(&options),
        Chore::Lifecycle(options) => lifecycle::measure(&options),
        Chore::PagerClone(options) => pager::run_clone(&options),
        Chore::Page => {
            [run::PAGE, clone::PAGE].iter().try_for_each(Page::regenerate)?;
            api::REPORT.regenerate()?;
            net::REPORT.regenerate()?;
            volumes::REPORT.regenerate()?;
            pager::REPORT.regenerate()
        }
    }
}

impl Page {
    /// Regenerates the files from the committed samples, if there are any.
    fn regenerate(&self) -> Result<()> {
        match Path::new(self.samples).exists() {
            true => self.write(&read(Path::new(self.samples))?),
            false => Ok(()),
        }
    }

    fn write(&self, bench: &Bench) -> Result<()> {
        self.files.iter().try_for_each(|(file, render)| write(Path::new(file), &render(bench)))
    }

    /// Writes the samples where the options say.
    fn save(&self, common: &Common, bench: &Bench) -> Result<()> {
        let samples = serde_json::to_string(bench)? + "\n";
        if let Some(path) = &common.json {
            write(path, &samples)?;
        }
        if common.publish {
            write(Path::new(self.samples), &samples)?;
            self.write(bench)?;
        }
        Ok(())
    }
}

/// Starts a benchmark's results with a description of the host.
fn new_bench(lab: &Lab) -> Result<Bench> {
    let mut bench = Bench::new(host::describe()?);
    if host::is_newer_than(lab.program())? {
        bench.note("The measured program is older than the commit named here.".to_owned());
    }
    Ok(bench)
}

/// Prepares podman; adds a note if that fails.
fn podman(lab: &Lab, bench: &mut Bench) -> Option<Podman> {
    match Podman::new(lab) {
        Ok(podman) => {
            bench.podman = Some(podman.description());
            Some(podman)
        }
        Err(error) => {
            bench.note(format!("Podman was not measured: {error:#}."));
            None
        }
    }
}

/// Prepares a home for each kernel, Debian's first.
fn prepare_sites<'a>(lab: &'a Lab, common: &Common, bench: &mut Bench) -> Result<Vec<Site<'a>>> {
    let debian = kernel::debian(lab, common.debian_kernel.as_deref())?;
    let mut sites = vec![debian];
    match &common.own_kernel {
        Some(home) => sites.push(kernel::own(lab, home)?),
        None => bench.note(
            "mimeo's own kernel was not measured: `MIMEO_HOME=DIR mimeo setup kernel --build` builds it in \
             some minutes, and `--own-kernel DIR` measures it."
                .to_owned(),
        ),
    }
    for site in &sites {
        bench.kernels.push((site.subject, site.kernel.clone()));
        site.pull()?;
        // Not counted: it tests the accelerator and makes the template of the writable
        // disk.
        cold_run::once(site).context("the first run")?;
    }
    bench.accelerator = sites[0].accelerator()?;
    Ok(sites)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
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

/// Prints what is measured next, since a benchmark takes minutes.
fn announce(measurement: &str, count: u32) {
    eprintln!("{measurement}: {count} …");
}

/// mimeo on Debian's kernel and on its own.
const DEBIAN: Subject = Subject::MimeoDebian;
const OWN: Subject = Subject::MimeoOwn;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{clone, read, run};

    #[test]
    fn the_pages_match_the_committed_samples() {
        let top = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
        for page in [run::PAGE, clone::PAGE] {
            let samples = top.join(page.samples);
            if !samples.exists() {
                assert!(page.files.iter().all(|(file, _)| !top.join(file).exists()), "{}", page.samples);
                continue;
            }
            let bench = read(&samples).expect("samples of this format");
            for (file, render) in page.files {
                let committed = std::fs::read_to_string(top.join(file)).expect("a page");
                assert_eq!(render(&bench), committed, "{file} is stale: run `cargo xtask bench page`");
            }
        }
    }
}
