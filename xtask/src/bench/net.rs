//! `bench net`: what a network costs: rootless, bridged, and that of the host itself, in turn.

mod figures;
mod page;
mod peer;
mod probe;

use anyhow::{Context, Result, ensure};
use e2e::{Image, Layer, guest_program};

use super::lab::{Lab, Site};
use super::sheet::{Keep, Sheet};
use super::{announce, host, kernel};
use figures::{Net, Way};
use peer::Peer;

/// What is published.
pub(super) const SHEET: Sheet<Net> = Sheet {
    samples: "docs/reference/benchmarks/net.json",
    page: "docs/reference/benchmarks-net.md",
    of: page::of,
};

/// The services at the other end.
const PROGRAM: &str = "tcp_peer";

/// How to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Rounds, in each of which every network is measured once
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Two rounds: to see that it works
    #[arg(long, conflicts_with = "rounds")]
    quick: bool,
    /// Link Debian's kernel from this home, instead of fetching it
    #[arg(long, value_name = "HOME")]
    debian_kernel: Option<std::path::PathBuf>,
    #[command(flatten)]
    keep: Keep,
}

/// Measures all of it, and prints the tables.
pub(super) fn measure(options: &Options) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "a bridge takes root");
    let rounds = if options.quick { 2 } else { options.rounds };
    let lab = Lab::new()?;
    let site = kernel::debian(&lab, options.debian_kernel.as_deref())?;
    let program = guest_program(PROGRAM);
    let image = image(&lab, &program)?;
    let mut net = Net::new(host::describe()?, site.kernel.clone());
    let peers = peers(&site, &image, &lab.dir().join(PROGRAM), &program)?;
    announce("rounds of all networks", rounds);
    for round in 0..=rounds {
        for peer in &peers {
            let probed = probe::of(peer).with_context(|| peer.way.words())?;
            // In the first the guests translate what they do.
            if round > 0 {
                net.add(peer.way, probed);
            }
        }
    }
    net.host.load_at_end = host::load();
    println!("\n{}", page::figures(&net));
    SHEET.keep(&options.keep, &net)
}

fn image(lab: &Lab, program: &[u8]) -> Result<String> {
    let layer = Layer::default().file(PROGRAM, 0o755, program);
    let dir = lab.dir().join("peer");
    Image::new("peer", vec![layer]).write_layout(&dir);
    Ok(format!("oci:{}:latest", dir.display()))
}

fn peers<'a>(
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
        Peer::in_machine(site, image, Way::Rootless)?,
        Peer::in_machine(site, image, Way::BridgedPublished)?,
        Peer::in_machine(site, image, Way::Bridged)?,
    ])
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_is_made_from_the_samples_that_are_kept() {
        super::SHEET.assert_is_current();
    }
}
