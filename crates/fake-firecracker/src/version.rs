//! What the versions differ in.

/// The words of requests that came with a version: path, word, minor version.
const WORDS: [(&str, &str, u32); 15] = [
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

/// Its minor number; all that are imitated have 1 as their major one.
pub(crate) fn minor(version: &str) -> u32 {
    version.split('.').nth(1).and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// The first word of a body that a version does not know.
pub(crate) fn unknown_word(version: &str, path: &str, body: &serde_json::Value) -> Option<&'static str> {
    let has = |word: &str| body.get(word).is_some();
    WORDS
        .into_iter()
        .filter(|(place, word, since)| path.starts_with(place) && *since > minor(version) && has(word))
        .map(|(_, word, _)| word)
        .next()
}

/// The format of its saved states: 11 for 1.17, and another for each version.
pub(crate) fn state_format(version: &str) -> String {
    format!("{}.0.0", minor(version).saturating_sub(6))
}

/// A diff needs no tracking of what is written.
pub(crate) fn diffs_untracked(version: &str) -> bool {
    minor(version) >= 13
}

/// A page server is told `page_size`, and not only `page_size_kib`.
pub(crate) fn tells_page_size(version: &str) -> bool {
    minor(version) >= 12
}

/// It makes the files of its log and its metrics, where they are not there.
pub(crate) fn makes_files(version: &str) -> bool {
    minor(version) >= 14
}

/// Kernels may be compressed.
pub(crate) fn boots_compressed(version: &str) -> bool {
    minor(version) >= 17
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_unknown_before_its_version() {
        let body = serde_json::json!({ "vsock_override": { "uds_path": "x" } });
        assert_eq!(unknown_word("1.15.1", "/snapshot/load", &body), Some("vsock_override"));
        assert_eq!(unknown_word("1.16.0", "/snapshot/load", &body), None);
        assert_eq!(unknown_word("1.15.1", "/vsock", &body), None);
    }
}
