//! `--ulimit`.

use mimeo_agent_protocol::message::{Resource, ResourceLimit};

use crate::error::CliError;

/// Parses `NAME=SOFT[:HARD]`. The last of several for one resource counts.
pub(super) fn parse_all(texts: &[String]) -> Result<Vec<ResourceLimit>, CliError> {
    let mut limits: Vec<ResourceLimit> = Vec::new();
    for text in texts {
        let limit = parse(text)?;
        limits.retain(|other| other.resource != limit.resource);
        limits.push(limit);
    }
    Ok(limits)
}

fn parse(text: &str) -> Result<ResourceLimit, CliError> {
    let invalid = |reason: &str| CliError::usage(format!("--ulimit {text:?} {reason}"));
    if text == "host" {
        return Err(invalid("cannot be used: the limits of this host are not a machine's"));
    }
    let (name, values) = text.split_once('=').ok_or_else(|| invalid("is not NAME=SOFT[:HARD]"))?;
    let lower = name.to_ascii_lowercase();
    let resource = Resource::ALL
        .into_iter()
        .find(|resource| resource.name() == lower.strip_prefix("rlimit_").unwrap_or(&lower))
        .ok_or_else(|| {
            invalid("names no resource: use nofile, nproc, core, memlock, stack or another of setrlimit's")
        })?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let value =
        |text: &str| value(text).ok_or_else(|| invalid("is not NAME=SOFT[:HARD], with numbers or -1"));
    let (soft, hard) = (value(soft)?, value(hard)?);
    if soft > hard {
        return Err(invalid("has a soft limit above its hard limit"));
    }
    Ok(ResourceLimit { resource, soft, hard })
}

fn value(text: &str) -> Option<u64> {
    match text {
        "-1" | "unlimited" => Some(ResourceLimit::UNLIMITED),
        _ => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_podmans() {
        let limit = |text| parse(text).map(|limit| (limit.resource, limit.soft, limit.hard)).ok();
        assert_eq!(limit("nofile=1024"), Some((Resource::Nofile, 1024, 1024)));
        assert_eq!(limit("nofile=1024:2048"), Some((Resource::Nofile, 1024, 2048)));
        assert_eq!(limit("core=0:-1"), Some((Resource::Core, 0, u64::MAX)));
        assert_eq!(limit("RLIMIT_NPROC=5"), Some((Resource::Nproc, 5, 5)));
        for bad in ["", "host", "nofile", "foo=1", "core=5:3", "core=-1:3", "core=x", "core=1:2:3", "core="] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_last_limit_of_a_resource_counts() {
        let limits = parse_all(&["core=1".into(), "core=2".into()]).expect("limits");
        assert_eq!(limits.len(), 1);
        assert_eq!(limits[0].soft, 2);
    }
}
