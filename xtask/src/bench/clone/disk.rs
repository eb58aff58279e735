//! The stage that creates a clone's disk. Its time must not depend on how much the source has written.

use anyhow::{Context, Result};
use serde_json::Value;

use super::source;
use crate::bench::lab::Site;
use crate::bench::result::{Bench, Measurement};

const WRITTEN_MIB: [u32; 3] = [0, 256, 1024];
const TAG: &str = "written";
const NAME: &str = "reader";

/// Takes a snapshot for each amount of data and starts clones of it.
pub(super) fn measure(bench: &mut Bench, site: &Site<'_>, runs: u32) -> Result<()> {
    for written_mib in WRITTEN_MIB {
        crate::bench::announce(&format!("clones of a disk with {written_mib} MiB"), runs);
        let write = format!("dd if=/dev/zero of=/written bs=1M count={written_mib} && sync");
        source::save(site, TAG, &[], (written_mib > 0).then_some(&*write))?;
        bench.sample(
            Measurement::MemoryFlattening { written_mib },
            site.subject,
            stage_of_clone(site, "memory")?,
        );
        for _ in 0..runs {
            bench.sample(Measurement::Disk { written_mib }, site.subject, stage_of_clone(site, "disk")?);
        }
        source::remove(site, TAG)?;
    }
    Ok(())
}

fn stage_of_clone(site: &Site<'_>, name: &str) -> Result<f64> {
    let output = site.json(&["snapshot", "run", TAG, "--rm", "--name", NAME, "--json"]);
    site.stop(NAME)?;
    stage(&output?, name).with_context(|| format!("no stage {name}"))
}

fn stage(output: &Value, name: &str) -> Option<f64> {
    let stages = output.pointer("/0/stages")?.as_array()?;
    let stage = stages.iter().find(|stage| stage.get(0).and_then(Value::as_str) == Some(name))?;
    stage.get(1)?.as_f64()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::stage;

    #[test]
    fn a_stage_is_found_by_name() {
        let output = json!([{ "name": "x", "stages": [["plan", 2], ["disk", 1], ["thaw", 9]] }]);
        assert_eq!(stage(&output, "disk"), Some(1.0));
    }
}
