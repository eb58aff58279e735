//! The stage in which a copy is given its disk: flat in what its source has written.

use anyhow::{Context, Result};
use serde_json::Value;

use super::source;
use crate::bench::lab::Site;
use crate::bench::result::{Bench, What};

const WRITTEN_MIB: [u32; 3] = [0, 256, 1024];
const TAG: &str = "written";
const NAME: &str = "reader";

/// A snapshot for each amount, and copies of it.
pub(super) fn measure(bench: &mut Bench, site: &Site<'_>, runs: u32) -> Result<()> {
    for written_mib in WRITTEN_MIB {
        crate::bench::announce(&format!("copies of a disk with {written_mib} MiB"), runs);
        let write = format!("dd if=/dev/zero of=/written bs=1M count={written_mib} && sync");
        source::keep(site, TAG, &[], (written_mib > 0).then_some(&*write))?;
        bench.sample(What::Layout { written_mib }, site.key, one(site, "memory")?);
        for _ in 0..runs {
            bench.sample(What::Disk { written_mib }, site.key, one(site, "disk")?);
        }
        source::forget(site, TAG)?;
    }
    Ok(())
}

fn one(site: &Site<'_>, name: &str) -> Result<f64> {
    let told = site.json(&["snapshot", "run", TAG, "--rm", "--name", NAME, "--json"]);
    site.stop(NAME)?;
    stage(&told?, name).context("the stage is not told")
}

fn stage(told: &Value, name: &str) -> Option<f64> {
    let stages = told.pointer("/0/stages")?.as_array()?;
    let stage = stages.iter().find(|stage| stage.get(0).and_then(Value::as_str) == Some(name))?;
    stage.get(1)?.as_f64()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::stage;

    #[test]
    fn the_stage_is_found_by_its_name() {
        let told = json!([{ "name": "x", "stages": [["plan", 2], ["disk", 1], ["thaw", 9]] }]);
        assert_eq!(stage(&told, "disk"), Some(1.0));
    }
}
