//! Differences between versions.

/// Request fields added in a version: path, field, minor version.
const FIELDS: [(&str, &str, u32); 15] = [
    ("/snapshot/load", "network_overrides", 12),
    ("/snapshot/load", "track_dirty_pages", 13),
    ("/mmds/config", "imds_compat", 13),
    ("/balloon", "free_page_hinting", 14),
    ("/balloon", "free_page_reporting", 14),
    ("/snapshot/load", "vsock_override", 16),
    ("/snapshot/load", "clock_realtime", 16),
    ("/network-interfaces", "mtu", 16),
    ("/snapshot/load", "huge_pages", 17),
    ("/metrics", "emit_id", 17),
    ("/metrics", "properties", 17),
    ("/serial", "serial_out_path", 14),
    ("/serial", "rate_limiter", 16),
    ("/pmem", "id", 14),
    ("/hotplug", "total_size_mib", 14),
];

/// The minor number; all imitated versions have the major number 1.
pub(crate) fn minor(version: &str) -> u32 {
    version.split('.').nth(1).and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// The first field of a body that a version does not know.
pub(crate) fn unknown_field(version: &str, path: &str, body: &serde_json::Value) -> Option<&'static str> {
    let has = |field: &str| body.get(field).is_some();
    FIELDS
        .into_iter()
        .filter(|(prefix, field, since)| path.starts_with(prefix) && *since > minor(version) && has(field))
        .map(|(_, field, _)| field)
        .next()
}

/// The version's snapshot format: 11 for 1.17, and a different one for each version.
pub(crate) fn state_format(version: &str) -> String {
    format!("{}.0.0", minor(version).saturating_sub(6))
}

/// Diff snapshots need no dirty page tracking.
pub(crate) fn diffs_untracked(version: &str) -> bool {
    minor(version) >= 13
}

/// The page server handshake has `page_size`, not only `page_size_kib`.
pub(crate) fn sends_page_size(version: &str) -> bool {
    minor(version) >= 12
}

/// Missing log and metrics files are created.
pub(crate) fn creates_files(version: &str) -> bool {
    minor(version) >= 14
}

/// Compressed kernels can be booted.
pub(crate) fn boots_compressed(version: &str) -> bool {
    minor(version) >= 17
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_unknown_before_its_version() {
        let body = serde_json::json!({ "vsock_override": { "uds_path": "x" } });
        assert_eq!(unknown_field("1.15.1", "/snapshot/load", &body), Some("vsock_override"));
        assert_eq!(unknown_field("1.16.0", "/snapshot/load", &body), None);
        assert_eq!(unknown_field("1.15.1", "/vsock", &body), None);
    }
}
