//! Parsers of values that several commands take: sizes, times, variables, ports.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use mimeo_net::PortMapping;

use crate::error::CliError;

/// Parses a size as podman does: `512m`, `0.25g`, `1073741824`.
pub(crate) fn size(text: &str) -> Result<u64, CliError> {
    let lower = text.to_ascii_lowercase();
    let bare = lower.trim_end_matches('b').trim_end_matches('i');
    let (digits, shift) = match bare.char_indices().last() {
        Some((at, 'k')) => (&bare[..at], 10),
        Some((at, 'm')) => (&bare[..at], 20),
        Some((at, 'g')) => (&bare[..at], 30),
        Some((at, 't')) => (&bare[..at], 40),
        _ => (bare, 0),
    };
    let whole = || digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    let bytes = if digits.contains('.') { fraction(digits, shift) } else { whole() };
    bytes.ok_or_else(|| {
        CliError::usage(format!(
            "{text:?} is not a size: give a number of bytes, or a number with k, m, g or t"
        ))
    })
}

/// A number with decimals, times 2 to the power of `shift`.
fn fraction(digits: &str, shift: u32) -> Option<u64> {
    let is_decimal = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let bytes = digits.parse::<f64>().ok().filter(|_| is_decimal)? * f64::from(1_u32 << shift.min(31));
    let bytes = bytes * if shift > 31 { f64::from(1_u32 << (shift - 31)) } else { 1.0 };
    (bytes < u64::MAX as f64).then_some(bytes as u64)
}

/// As [`duration`], but zero is allowed.
pub(crate) fn duration_or_zero(flag: &str, text: &str) -> Result<Duration, CliError> {
    match text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).parse() {
        Ok(0.0) => Ok(Duration::ZERO),
        _ => duration(flag, text),
    }
}

/// Parses a duration: `500ms`, `30s`, `2m`, `1h`, or seconds without a unit.
pub(crate) fn duration(flag: &str, text: &str) -> Result<Duration, CliError> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => {
            return Err(CliError::usage(format!(
                "{flag} {text:?} is not a duration: give one such as 500ms, 30s, 2m or 1h"
            )));
        }
    };
    let seconds = digits.parse::<f64>().ok().map(|number| number * unit);
    let valid = seconds.filter(|seconds| seconds.is_finite() && *seconds > 0.0 && *seconds < 1e7);
    valid.map(Duration::from_secs_f64).ok_or_else(|| {
        CliError::usage(format!("{flag} {text:?} is not a duration: give one such as 500ms, 30s, 2m or 1h"))
    })
}

/// Parses a time: RFC 3339, a date, seconds since 1970, or how long ago (`10m`, `1h30m`).
pub(crate) fn timestamp(flag: &str, text: &str, now: Timestamp) -> Result<Timestamp, CliError> {
    let parsed = rfc3339(text).or_else(|| unix_seconds(text)).or_else(|| relative(text, now));
    parsed.ok_or_else(|| {
        CliError::usage(format!(
            "{flag} {text:?} is not a time: give one such as 2026-01-31T12:00:00Z, seconds since 1970, or 10m \
             for ten minutes ago"
        ))
    })
}

fn rfc3339(text: &str) -> Option<Timestamp> {
    let local = || {
        let time = text.parse::<jiff::civil::DateTime>().ok()?;
        Some(time.to_zoned(jiff::tz::TimeZone::system()).ok()?.timestamp())
    };
    text.parse().ok().or_else(local)
}

fn unix_seconds(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(seconds) || !digits(fraction) {
        return None;
    }
    let nanos: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    Timestamp::new(seconds.parse().ok()?, nanos.parse().ok()?).ok()
}

fn relative(text: &str, now: Timestamp) -> Option<Timestamp> {
    let mut remaining = text.strip_prefix('-').unwrap_or(text);
    let mut nanos: f64 = 0.0;
    while !remaining.is_empty() {
        let digits = remaining.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = remaining[..digits].parse().ok()?;
        let unit_start = &remaining[digits..];
        let end = unit_start.find(|c: char| c.is_ascii_digit()).unwrap_or(unit_start.len());
        nanos += number
            * match &unit_start[..end] {
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                "d" => 86400e9,
                _ => return None,
            };
        remaining = &unit_start[end..];
    }
    let ago = jiff::SignedDuration::try_from_secs_f64(nanos / 1e9).ok()?;
    now.checked_sub(ago).ok().filter(|_| !text.is_empty())
}

/// Merges the variables of `--env-file` and `--env`; `--env` takes precedence.
pub(crate) fn environment(
    files: &[PathBuf],
    variables: &[String],
) -> Result<BTreeMap<String, String>, CliError> {
    let mut env = BTreeMap::new();
    for file in files {
        for line in file_lines("--env-file", file)? {
            if line.starts_with('=') {
                let file = file.display();
                return Err(CliError::usage(format!("--env-file {file}: {line:?} does not name a variable")));
            }
            set_variable(&mut env, &line);
        }
    }
    if let Some(bad) = variables.iter().find(|text| text.is_empty() || text.starts_with('=')) {
        return Err(CliError::usage(format!("--env {bad:?} does not name a variable")));
    }
    variables.iter().for_each(|text| set_variable(&mut env, text));
    Ok(env)
}

/// The lines of a file of variables or labels, as podman reads it: leading blanks, empty lines and comments are left
/// out, and everything else is kept, also trailing blanks. A byte order mark is not part of the first line.
pub(crate) fn file_lines(flag: &str, file: &Path) -> Result<Vec<String>, CliError> {
    let text = fs::read_to_string(file)
        .map_err(|source| CliError::io(format!("read {flag} {}", file.display()), source))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines = text.lines().map(str::trim_start);
    Ok(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect())
}

/// Sets `NAME=VALUE`. For a name alone, copies the variable from mimeo's own environment, if it is set there; for
/// `PREFIX*`, all variables whose names begin so.
fn set_variable(env: &mut BTreeMap<String, String>, text: &str) {
    if let (Some(prefix), false) = (text.strip_suffix('*'), text.contains('=')) {
        env.extend(host_variables().filter(|(name, _)| name.starts_with(prefix)));
        return;
    }
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, std::env::var(text).ok()),
    };
    if let Some(value) = value {
        env.insert(name.to_owned(), value);
    }
}

/// A path in the container, which must be absolute.
pub(crate) fn absolute(option: &str, path: String) -> Result<String, CliError> {
    if path.starts_with('/') {
        return Ok(path);
    }
    Err(CliError::usage(format!("{option} {path:?} is not an absolute path in the container")))
}

/// An absolute path without repeated and trailing slashes, `.` and `..`.
pub(crate) fn clean_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The variables of mimeo's own environment that are text.
pub(crate) fn host_variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Parses the values of `--publish`.
pub(crate) fn ports(texts: &[String]) -> Result<Vec<PortMapping>, CliError> {
    let mut ports = Vec::new();
    for text in texts {
        ports.extend(PortMapping::parse(text)?);
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn sizes_are_parsed_as_podmans() {
        assert_eq!(size("512m").expect("a size"), 512 * MIB);
        assert_eq!(size("1G").expect("a size"), 1024 * MIB);
        assert_eq!(size("1GiB").expect("a size"), 1024 * MIB);
        assert_eq!(size("1024").expect("a size"), 1024);
        assert_eq!(size("0.25g").expect("a size"), 256 * MIB);
        assert_eq!(size("1.5t").expect("a size"), 1536 * 1024 * MIB);
        assert_eq!(size(".5k").expect("a size"), 512);
        for bad in
            ["", "m", "-1", "1x", "1.5.1g", ".", "1e3g", "-1.5g", "inf.g", "99999999999t", "99999999999.5t"]
        {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn files_of_variables_are_read_as_podman_reads_them() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("env");
        let read = |content: &str| {
            fs::write(&file, content).expect("written");
            environment(std::slice::from_ref(&file), &[])
        };
        let env =
            read("\u{feff}A=x y \n  B=z\t\r\n#C=1\n  # D=1\n\nE=\nF=\"q\"\nG= lead\nNOT_SET_ANYWHERE\n")
                .expect("variables");
        let pairs: Vec<_> = env.iter().map(|(name, value)| format!("{name}={value}|")).collect();
        assert_eq!(pairs.concat(), "A=x y |B=z\t|E=|F=\"q\"|G= lead|");
        assert!(read("=1").is_err());
        let path = read("PAT*\n").expect("variables");
        assert_eq!(path.get("PATH").cloned(), std::env::var("PATH").ok());
        assert!(environment(&[directory.path().join("none")], &[]).is_err());
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("x", "500ms").expect("a time"), Duration::from_millis(500));
        assert_eq!(duration("x", "2m").expect("a time"), Duration::from_secs(120));
        for bad in ["", "s", "-1s", "1d", "0"] {
            assert!(duration("x", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn timestamps_are_parsed_in_three_forms() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().expect("a time");
        let parsed = |text| timestamp("--since", text, now).map(|time| time.to_string()).unwrap_or_default();
        assert_eq!(parsed("2026-01-01T00:00:00Z"), "2026-01-01T00:00:00Z");
        assert_eq!(parsed("1769860800"), "2026-01-31T12:00:00Z");
        assert_eq!(parsed("1769860800.5"), "2026-01-31T12:00:00.5Z");
        assert_eq!(parsed("10m"), "2026-01-31T11:50:00Z");
        assert_eq!(parsed("1h30m"), "2026-01-31T10:30:00Z");
        for bad in ["", "soon", "10", "10x", "m", "1h30"] {
            let is_number = bad.parse::<u64>().is_ok();
            assert_eq!(timestamp("--since", bad, now).is_ok(), is_number, "{bad}");
        }
    }
}
