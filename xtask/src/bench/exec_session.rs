//! exec of `true` over one session with the machine's monitor, from the
//! request to the exit status.

use std::time::Instant;

use anyhow::Result;

use super::guest::Session;
use super::lab::Site;
use super::result::{Bench, What};
use super::stopwatch;

const NAME: &str = "session";
/// Not counted: under emulation the guest translates the path anew.
const WARM_UP: u32 = 5;

/// One exec after the other.
pub(super) fn measure(bench: &mut Bench, site: &Site<'_>, runs: u32) -> Result<()> {
    super::announce("exec calls over one session", runs);
    site.start(NAME)?;
    let samples = stopwatch::runtime()?.block_on(session(site, runs));
    site.stop(NAME)?;
    samples?.into_iter().for_each(|sample| bench.sample(What::ExecSession, site.key, sample));
    Ok(())
}

async fn session(site: &Site<'_>, runs: u32) -> Result<Vec<f64>> {
    let session = Session::with(&site.engine()?, NAME).await?;
    for _ in 0..WARM_UP {
        session.exec().await?;
    }
    let mut samples = Vec::new();
    for _ in 0..runs {
        let begun = Instant::now();
        session.exec().await?;
        samples.push(stopwatch::millis(begun));
    }
    Ok(samples)
}
