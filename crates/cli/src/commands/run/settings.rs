//! From arguments to a machine's spec: every text becomes what it means.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mimeo_engine::health;
use mimeo_engine::machine::{HealthProbe, HealthSpec, MachineSpec, VolumeSpec};
use mimeo_engine::signal;
use mimeo_net::PortMapping;

use super::Args;
use crate::error::CliError;

const MIB: u64 = 1024 * 1024;

/// The machine that the arguments ask for.
pub(super) fn spec(args: Args) -> Result<MachineSpec, CliError> {
    let health = health_spec(&args)?;
    Ok(MachineSpec {
        command: args.command,
        entrypoint: args.entrypoint.map(|text| entrypoint(&text)).transpose()?,
        env: environment(&args.env_file, &args.env)?,
        workdir: args.workdir,
        user: args.user,
        hostname: args.hostname.map(hostname).transpose()?,
        name: args.name.map(|name| name.parse()).transpose()?,
        labels: args.label.iter().map(|label| pair(label)).collect(),
        cpus: args.cpus,
        memory_mib: memory(&args.memory)?,
        disk_bytes: size(&args.disk)?,
        network: args.network.into(),
        ports: ports(&args.publish)?,
        dns: args.dns.iter().map(ToString::to_string).collect(),
        add_hosts: args.add_host.iter().map(|text| add_host(text)).collect::<Result<_, _>>()?,
        volumes: args.volume.iter().map(|text| volume(text)).collect::<Result<_, _>>()?,
        tty: args.tty,
        interactive: args.interactive,
        init: args.init,
        remove: args.rm,
        pull: args.pull.into(),
        health,
        driver: args.driver,
        accelerator: args.accel.into(),
        stop_signal: args.stop_signal.map(|text| signal::parse(&text)).transpose()?,
        stop_timeout: args.stop_timeout,
        start_timeout: args.start_timeout,
        ..MachineSpec::new(args.image)
    })
}

fn entrypoint(text: &str) -> Result<Vec<String>, CliError> {
    if text.starts_with('[') {
        return serde_json::from_str(text)
            .map_err(|_| CliError::usage(format!("--entrypoint {text:?} is no JSON array of strings")));
    }
    Ok(vec![text.to_owned()])
}

fn environment(files: &[PathBuf], own: &[String]) -> Result<BTreeMap<String, String>, CliError> {
    let mut env = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(file)
            .map_err(|source| CliError::io(format!("read --env-file {}", file.display()), source))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.for_each(|line| set(&mut env, line));
    }
    if let Some(bad) = own.iter().find(|text| text.is_empty() || text.starts_with('=')) {
        return Err(CliError::usage(format!("--env {bad:?} names no variable")));
    }
    own.iter().for_each(|text| set(&mut env, text));
    Ok(env)
}

/// A name alone means its value here, if it has one.
fn set(env: &mut BTreeMap<String, String>, text: &str) {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, std::env::var(text).ok()),
    };
    if let Some(value) = value {
        env.insert(name.to_owned(), value);
    }
}

fn hostname(text: String) -> Result<String, CliError> {
    let label = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if text.len() <= 64 && text.split('.').all(label) {
        return Ok(text);
    }
    Err(CliError::usage(format!("--hostname {text:?} is no host name of at most 64 characters")))
}

fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

fn memory(text: &str) -> Result<u32, CliError> {
    let mib = size(text)?.div_ceil(MIB);
    u32::try_from(mib).map_err(|_| CliError::usage(format!("--memory {text} is more than any machine has")))
}

/// `512m`, `1g`, `1073741824`, as podman takes them.
fn size(text: &str) -> Result<u64, CliError> {
    let lower = text.to_ascii_lowercase();
    let bare = lower.trim_end_matches('b').trim_end_matches('i');
    let (digits, shift) = match bare.char_indices().last() {
        Some((at, 'k')) => (&bare[..at], 10),
        Some((at, 'm')) => (&bare[..at], 20),
        Some((at, 'g')) => (&bare[..at], 30),
        Some((at, 't')) => (&bare[..at], 40),
        _ => (bare, 0),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| {
        CliError::usage(format!("{text:?} is no size: a number of bytes, or with k, m, g or t"))
    })
}

fn ports(texts: &[String]) -> Result<Vec<PortMapping>, CliError> {
    let mut ports = Vec::new();
    for text in texts {
        ports.extend(PortMapping::parse(text)?);
    }
    Ok(ports)
}

fn add_host(text: &str) -> Result<(String, String), CliError> {
    match text.split_once(':') {
        Some((name, ip)) if !name.is_empty() && ip.parse::<std::net::IpAddr>().is_ok() => {
            Ok((name.to_owned(), ip.to_owned()))
        }
        _ => Err(CliError::usage(format!("--add-host {text:?} is not NAME:IP"))),
    }
}

/// `HOST:GUEST[:ro|rw]`.
fn volume(text: &str) -> Result<VolumeSpec, CliError> {
    let refuse = |why: &str| Err(CliError::usage(format!("--volume {text:?} {why}")));
    let parts: Vec<_> = text.split(':').collect();
    let (host, guest, options) = match parts[..] {
        [host, guest] => (host, guest, ""),
        [host, guest, options] => (host, guest, options),
        _ => return refuse("is not HOST:GUEST[:ro]"),
    };
    if host.is_empty() || guest.is_empty() {
        return refuse("is not HOST:GUEST[:ro]");
    }
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            // Labels and propagation mean nothing across a virtual machine.
            "rw" | "z" | "Z" => {}
            _ => return refuse(&format!("has an option {option:?}: ro and rw are known")),
        }
    }
    if !(host.starts_with('/') || host.starts_with('.')) {
        return refuse("begins with neither / nor . : named volumes are not kept, give a directory");
    }
    let host =
        std::path::absolute(Path::new(host)).map_err(|source| CliError::io("find the volume", source))?;
    Ok(VolumeSpec { host, guest: guest.to_owned(), read_only })
}

fn health_spec(args: &Args) -> Result<Option<HealthSpec>, CliError> {
    let probe = match (&args.health_cmd, &args.health_url) {
        // An empty command and podman's word switch an image's check off.
        (Some(command), _) if command.is_empty() || command == "none" => HealthProbe::Command(Vec::new()),
        (Some(command), _) => HealthProbe::Command(health::shell(command)),
        (None, Some(url)) if url.starts_with("http://") => HealthProbe::Url(url.clone()),
        (None, Some(url)) => {
            return Err(CliError::usage(format!("--health-url {url:?} does not begin with http://")));
        }
        (None, None) => return Ok(None),
    };
    Ok(Some(HealthSpec {
        probe,
        interval: duration("--health-interval", &args.health_interval)?,
        timeout: duration("--health-timeout", &args.health_timeout)?,
        retries: args.health_retries.max(1),
        start_period: duration("--health-start-period", &args.health_start_period)?,
    }))
}

/// `500ms`, `30s`, `2m`, `1h`, or seconds without a unit.
fn duration(what: &str, text: &str) -> Result<Duration, CliError> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(CliError::usage(format!("{what} {text:?} is no time such as 30s"))),
    };
    let seconds = digits.parse::<f64>().ok().map(|number| number * unit);
    let valid = seconds.filter(|seconds| seconds.is_finite() && *seconds > 0.0 && *seconds < 1e7);
    valid
        .map(Duration::from_secs_f64)
        .ok_or_else(|| CliError::usage(format!("{what} {text:?} is no time such as 30s")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_podmans() {
        assert_eq!(size("512m").expect("a size"), 512 * MIB);
        assert_eq!(size("1G").expect("a size"), 1024 * MIB);
        assert_eq!(size("1GiB").expect("a size"), 1024 * MIB);
        assert_eq!(size("1024").expect("a size"), 1024);
        for bad in ["", "m", "-1", "1x", "1.5g", "99999999999t"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(memory("1").expect("a size"), 1);
    }

    #[test]
    fn volumes_are_podmans() {
        let volume = |text| volume(text).expect("a volume");
        assert_eq!(volume("/a:/b:ro"), VolumeSpec { host: "/a".into(), guest: "/b".into(), read_only: true });
        assert!(!volume("/a:/b").read_only);
        for bad in ["/a", "/a:", ":/b", "/a:/b:shiny", "name:/b", "/a:/b:ro:x"] {
            assert!(super::volume(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("x", "500ms").expect("a time"), Duration::from_millis(500));
        assert_eq!(duration("x", "2m").expect("a time"), Duration::from_secs(120));
        for bad in ["", "s", "-1s", "1d", "0"] {
            assert!(duration("x", bad).is_err(), "{bad}");
        }
    }
}
