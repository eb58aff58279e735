//! `cargo xtask bench`: how long things take, beside podman in the same run.

mod clone;
mod cold_run;
mod exec_command;
mod exec_session;
mod guest;
mod host;
mod kernel;
mod lab;
mod net;
mod pager;
mod plot;
mod podman;
mod result;
mod run;
mod samples;
mod sheet;
mod soak;
mod stages;
mod stopwatch;
mod table;
mod whole;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub(crate) use lab::link_tree;
use lab::{Lab, Site};
use podman::Podman;
use result::{Bench, Key};

/// What is measured for how long.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Chore {
    /// Cold runs and execs, beside podman's
    Run(run::Options),
    /// Snapshots: warm runs, copies, pools, forks, and what they cost
    Clone(clone::Options),
    /// Networks: rootless, bridged, and the host's own
    Net(net::Options),
    /// The page server beside a bare loop, and what sharing memory saves
    Pager(pager::Options),
    /// All of a machine's life on one driver, beside plain cold boots
    Whole(whole::Options),
    /// One clone of that measurement
    #[command(hide = true)]
    PagerClone(pager::Guest),
    /// Write the pages anew from the samples that are kept
    Page,
}

/// What all measurements are told.
#[derive(Debug, clap::Args)]
struct Common {
    /// A few of each: to see that it works
    #[arg(long, conflicts_with = "runs")]
    quick: bool,
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

/// Files of the documentation that are made of samples.
struct Page {
    samples: &'static str,
    files: &'static [(&'static str, Writer)],
}

/// What a file is to hold for these samples.
type Writer = fn(&Bench) -> String;

/// Does one of the chores.
pub(crate) fn run(chore: Chore) -> Result<()> {
    match chore {
        Chore::Run(options) => run::measure(&options),
        Chore::Clone(options) => clone::measure(&options),
        Chore::Net(options) => net::measure(&options),
        Chore::Pager(options) => pager::measure(&options),
        Chore::Whole(options) => whole::measure(&options),
        Chore::PagerClone(guest) => pager::play(&guest),
        Chore::Page => {
            [run::PAGE, clone::PAGE].iter().try_for_each(Page::again)?;
            net::SHEET.again()?;
            pager::SHEET.again()
        }
    }
}

impl Page {
    /// From the samples that are kept, if there are any.
    fn again(&self) -> Result<()> {
        match Path::new(self.samples).exists() {
            true => self.write(&read(Path::new(self.samples))?),
            false => Ok(()),
        }
    }

    fn write(&self, bench: &Bench) -> Result<()> {
        self.files.iter().try_for_each(|(file, of)| write(Path::new(file), &of(bench)))
    }

    /// Keeps the samples of a measurement where it was told to.
    fn keep(&self, common: &Common, bench: &Bench) -> Result<()> {
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

/// What a measurement begins with.
fn begin(lab: &Lab) -> Result<Bench> {
    let mut bench = Bench::new(host::describe()?);
    if host::is_newer_than(lab.program())? {
        bench.note("The program that was measured is older than the commit named here.".to_owned());
    }
    Ok(bench)
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
fn sites<'a>(lab: &'a Lab, common: &Common, bench: &mut Bench) -> Result<Vec<Site<'a>>> {
    let debian = kernel::debian(lab, common.debian_kernel.as_deref())?;
    let mut sites = vec![debian];
    match &common.own_kernel {
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

/// Says what is measured now: minutes pass.
fn announce(what: &str, count: u32) {
    eprintln!("{what}: {count} …");
}

/// The keys of Debian's kernel and of our own.
const DEBIAN: Key = Key::MimeoDebian;
const OWN: Key = Key::MimeoOwn;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{clone, read, run};

    #[test]
    fn the_pages_are_made_from_the_samples_that_are_kept() {
        let top = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
        for page in [run::PAGE, clone::PAGE] {
            let samples = top.join(page.samples);
            if !samples.exists() {
                assert!(page.files.iter().all(|(file, _)| !top.join(file).exists()), "{}", page.samples);
                continue;
            }
            let bench = read(&samples).expect("samples of this format");
            for (file, of) in page.files {
                let kept = std::fs::read_to_string(top.join(file)).expect("a page");
                assert_eq!(of(&bench), kept, "{file}: `cargo xtask bench page` makes it anew");
            }
        }
    }
}
