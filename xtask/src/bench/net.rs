//! `bench net`: connect times and throughput of rootless and bridged networks and of the host's loopback.

mod figures;
mod page;
mod peer;
mod probe;

use anyhow::{Context, Result, ensure};
use e2e::{Image, Layer, guest_program};

use super::lab::{Lab, Site};
use super::report::{Report, SaveOptions};
use super::{announce, host, kernel};
use figures::{Net, NetworkPath};
use peer::Peer;

/// The published page.
pub(super) const REPORT: Report<Net> = Report {
    samples: "docs/reference/benchmarks/net.json",
    page: "docs/reference/benchmarks-net.md",
    render: page::render,
};

/// The peer's program.
const PROGRAM: &str = "tcp_peer";

/// Options of `bench net`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Number of rounds; each measures every network once
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Run only two rounds, as a smoke test
    #[arg(long, conflicts_with = "rounds")]
    quick: bool,
    /// Link Debian's kernel from this home instead of fetching it
    #[arg(long, value_name = "HOME")]
    debian_kernel: Option<std::path::PathBuf>,
    #[command(flatten)]
    save: SaveOptions,
}

/// Measures everything and prints the tables.
pub(super) fn measure(options: &Options) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "bridged networking needs root");
    let rounds = if options.quick { 2 } else { options.rounds };
    let lab = Lab::new()?;
    let site = kernel::debian(&lab, options.debian_kernel.as_deref())?;
    let program = guest_program(PROGRAM);
    let image = write_image(&lab, &program)?;
    let mut net = Net::new(host::describe()?, site.kernel.clone());
    let peers = start_peers(&site, &image, &lab.dir().join(PROGRAM), &program)?;
    announce("rounds of all networks", rounds);
    for round in 0..=rounds {
        for peer in &peers {
            let probe = probe::measure_round(peer).with_context(|| peer.path.label())?;
            // The first round is not counted: under emulation the guests' code is translated in it.
            if round > 0 {
                net.add(peer.path, probe);
            }
        }
    }
    net.host.load_at_end = host::load();
    println!("\n{}", page::figures(&net));
    REPORT.save(&options.save, &net)
}

fn write_image(lab: &Lab, program: &[u8]) -> Result<String> {
    let layer = Layer::default().file(PROGRAM, 0o755, program);
    let dir = lab.dir().join("peer");
    Image::new("peer", vec![layer]).write_layout(&dir);
    Ok(format!("oci:{}:latest", dir.display()))
}

fn start_peers<'a>(
    site: &'a Site<'_>,
    image: &str,
    program: &std::path::Path,
    bytes: &[u8],
) -> Result<Vec<Peer<'a>>> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(program, bytes)?;
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755))?;
    Ok(vec![
        Peer::on_host(program)?,
        Peer::in_machine(site, image, NetworkPath::Rootless)?,
        Peer::in_machine(site, image, NetworkPath::BridgedPublished)?,
        Peer::in_machine(site, image, NetworkPath::Bridged)?,
    ])
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_matches_the_committed_samples() {
        super::REPORT.assert_is_current();
    }
}
