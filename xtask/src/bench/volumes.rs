//! `bench volumes`: a shared directory, compared with the machine's own disk, podman's bind mount and the host.

mod figures;
mod location;
mod page;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use e2e::guest_program;

use super::lab::Lab;
use super::podman::Podman;
use super::report::{Report, SaveOptions};
use super::{announce, host, kernel};
use figures::{Figures, Volumes};
use location::Location;

/// The published page.
pub(super) const REPORT: Report<Volumes> = Report {
    samples: "docs/reference/benchmarks/volumes.json",
    page: "docs/reference/benchmarks-volumes.md",
    render: page::render,
};

/// The program that measures.
const PROGRAM: &str = "disk_speed";

/// Options of `bench volumes`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Number of rounds; each measures every location once
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Run one round with little data, as a smoke test
    #[arg(long, conflicts_with = "rounds")]
    quick: bool,
    /// Link Debian's kernel from this home instead of fetching it
    #[arg(long, value_name = "HOME")]
    debian_kernel: Option<std::path::PathBuf>,
    #[command(flatten)]
    save: SaveOptions,
}

/// Measures everything and prints the table.
pub(super) fn measure(options: &Options) -> Result<()> {
    let (rounds, mib, files) = if options.quick { (1, 32, 500) } else { (options.rounds, 1024, 10_000) };
    let lab = Lab::new()?;
    let site = kernel::debian(&lab, options.debian_kernel.as_deref())?;
    site.pull()?;
    let podman = Podman::new(&lab)?;
    let shared = lab.dir().join("shared");
    write_program(&shared)?;
    let mut volumes = Volumes::new(host::describe()?, site.kernel.clone(), podman.description(), mib, files);
    let locations = location::start_all(&site, &podman, &shared)?;
    announce("rounds of all locations", rounds);
    for _ in 0..rounds {
        for location in &locations {
            let samples =
                measure_location(location, mib, files).with_context(|| location.subject().label())?;
            volumes.add(location.subject(), samples);
        }
    }
    volumes.host.load_at_end = host::load();
    println!("\n{}", page::figures(&volumes));
    REPORT.save(&options.save, &volumes)
}

fn write_program(shared: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir(shared)?;
    std::fs::write(shared.join(PROGRAM), guest_program(PROGRAM))?;
    Ok(std::fs::set_permissions(shared.join(PROGRAM), std::fs::Permissions::from_mode(0o755))?)
}

/// Runs the program in one location; returns the name and the milliseconds of each measurement.
fn measure_location(location: &Location<'_>, mib: u32, files: u32) -> Result<Figures> {
    let output = location.command(&format!("{mib} {files}")).output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{PROGRAM}: {}", stderr.trim());
    String::from_utf8(output.stdout)?.lines().map(parse_line).collect()
}

fn parse_line(line: &str) -> Result<(String, f64)> {
    let (name, millis) = line.split_once(' ').with_context(|| line.to_owned())?;
    Ok((name.to_owned(), millis.parse()?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_matches_the_committed_samples() {
        super::REPORT.assert_is_current();
    }
}
