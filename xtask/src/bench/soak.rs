//! Cold boots in a row, to find hangs and failures.

use anyhow::Result;

use super::lab::Site;
use super::result::{Bench, Soak};
use super::{cold_run, stopwatch};

/// Boots `count` times; failures are counted, not fatal.
pub(super) fn measure(bench: &mut Bench, site: &Site<'_>, count: u32) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    super::announce(&format!("boots in a row, {}", site.kernel), count);
    let mut soak = Soak::new(site.subject);
    for _ in 0..count {
        let attempt = stopwatch::run(&mut cold_run::command(site))?;
        match attempt.printed(&cold_run::expected_output()) {
            Ok(times) => soak.samples.push(times.total),
            Err(error) => {
                eprintln!("{error:#}");
                soak.add_failure(attempt.hung, &error.to_string());
            }
        }
    }
    bench.soaks.push(soak);
    Ok(())
}
