//! exec of `true` over one session with the machine's supervisor, from the
//! request to the exit status.

use std::time::Instant;

use anyhow::Result;

use super::guest::Session;
use super::lab::Site;
use super::result::{Bench, Measurement};
use super::stopwatch;

const NAME: &str = "session";
/// Not counted: under emulation the code path is translated first.
const WARM_UP: u32 = 5;

/// Measures execs one after the other.
pub(super) fn measure(bench: &mut Bench, site: &Site<'_>, runs: u32) -> Result<()> {
    super::announce("exec calls over one session", runs);
    site.start(NAME)?;
    let samples = stopwatch::runtime()?.block_on(measure_execs(site, runs));
    site.stop(NAME)?;
    samples?.into_iter().for_each(|sample| bench.sample(Measurement::ExecSession, site.subject, sample));
    Ok(())
}

async fn measure_execs(site: &Site<'_>, runs: u32) -> Result<Vec<f64>> {
    let session = Session::connect(&site.engine()?, NAME).await?;
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
