//! The seed's `meta-data`.

use serde::Serialize;

use crate::{Seed, SeedError};

/// JSON, which is YAML: as strings, an id or a name of digits stays text.
pub(crate) fn render(seed: &Seed) -> Result<Vec<u8>, SeedError> {
    let metadata = Metadata {
        instance_id: &seed.instance_id,
        local_hostname: &seed.hostname,
        public_keys: seed.ssh_keys.iter().map(|key| key.trim()).collect(),
    };
    serde_json::to_vec_pretty(&metadata).map_err(|source| SeedError::Render { name: "meta-data", source })
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Metadata<'a> {
    instance_id: &'a str,
    local_hostname: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    public_keys: Vec<&'a str>,
}
