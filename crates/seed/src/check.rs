//! What a requester's text may contain.

use crate::SeedError;

const MAX_INSTANCE_ID: usize = 128;
const MAX_HOST_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// cloud-init makes a directory of this name, and writes the id to files of one line.
pub(crate) fn instance_id(id: &str) -> Result<(), SeedError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let fits = id.len() <= MAX_INSTANCE_ID && id.bytes().all(allowed);
    let starts_well = id.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    ensure(fits && starts_well, || SeedError::InstanceId(id.to_owned()))
}

pub(crate) fn host_name(name: &str) -> Result<(), SeedError> {
    ensure(is_domain(name), || SeedError::HostName(name.to_owned()))
}

pub(crate) fn search_domain(name: &str) -> Result<(), SeedError> {
    ensure(is_domain(name), || SeedError::SearchDomain(name.to_owned()))
}

/// One line of text. PyYAML, which reads the seed, refuses control characters and non-characters.
pub(crate) fn is_line(text: &str, limit: usize) -> bool {
    let refused = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}');
    text.len() <= limit && !text.trim().is_empty() && !text.contains(refused)
}

pub(crate) fn count(what: &'static str, count: usize, limit: usize) -> Result<(), SeedError> {
    ensure(count <= limit, || SeedError::TooMany { what, count, limit })
}

pub(crate) fn length(what: &'static str, size: usize, limit: usize) -> Result<(), SeedError> {
    ensure(size <= limit, || SeedError::TooLong { what, size, limit })
}

pub(crate) fn ensure(holds: bool, error: impl FnOnce() -> SeedError) -> Result<(), SeedError> {
    if holds { Ok(()) } else { Err(error()) }
}

/// Names of machines may contain `_`, and are host names too.
fn is_domain(name: &str) -> bool {
    name.len() <= MAX_HOST_NAME && name.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let alphanumeric = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    label.len() <= MAX_LABEL
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        && alphanumeric(label.bytes().next())
        && alphanumeric(label.bytes().next_back())
}
