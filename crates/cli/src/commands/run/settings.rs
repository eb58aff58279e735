//! Parses the arguments of `run` into a machine's spec.

use std::time::Duration;

use mimeo_engine::health;
use mimeo_engine::machine::{
    HOST_GATEWAY, HealthAction, HealthProbe, HealthSpec, MachineSpec, RestartPolicy,
};
use mimeo_engine::signal;

use super::files::FileOptions;
use super::{MachineArgs, container, log};
use crate::error::CliError;
use crate::values::{absolute, duration, duration_or_zero, environment, ports, size};

const MIB: u64 = 1024 * 1024;

/// The spec of the machine that the arguments describe.
pub(super) fn spec(args: MachineArgs) -> Result<(MachineSpec, FileOptions), CliError> {
    args.platform.check()?;
    let health = health_spec(&args)?;
    let restart: RestartPolicy = args.restart.parse()?;
    if (args.rm || args.rmi) && restart != RestartPolicy::No {
        return Err(CliError::usage(format!(
            "--rm removes the machine when it exits, so --restart {restart} cannot start it again: omit one of them"
        )));
    }
    if args.no_hosts && !args.add_host.is_empty() {
        return Err(CliError::usage("--no-hosts and --add-host cannot be set together"));
    }
    let cpus = container::cpus(&args.cpus)?;
    let mounts = args.volumes.parse()?;
    let mut container_args = args.container;
    mounts.tmpfs.into_iter().for_each(|tmpfs| container_args.push_tmpfs(tmpfs));
    let container = container_args.options(&cpus, size(&args.memory)?)?;
    let mut words = args.image.into_iter();
    let image = words.next().unwrap_or_default();
    let mut spec = MachineSpec {
        command: words.collect(),
        entrypoint: args.entrypoint.map(|text| entrypoint(&text)).transpose()?,
        env: environment(&args.env_file, &args.env)?,
        workdir: args.workdir.map(|path| absolute("--workdir", path)).transpose()?,
        user: args.user,
        hostname: args.hostname.map(hostname).transpose()?,
        name: args.name.map(|name| name.parse()).transpose()?,
        labels: args.label.iter().map(|label| key_value(label)).collect(),
        cpus: cpus.vcpus,
        container,
        memory_mib: memory(&args.memory)?,
        disk_bytes: size(&args.disk)?,
        network: args.network,
        vm_to_vm: args.vm_to_vm,
        ports: ports(&args.publish)?,
        cold: args.cold,
        dns: args.dns.iter().map(ToString::to_string).collect(),
        add_hosts: args.add_host.iter().map(|text| add_host(text)).collect::<Result<_, _>>()?,
        volumes: mounts.volumes,
        volume_mounts: mounts.volume_mounts,
        image_volumes: mounts.image_volumes,
        tty: args.tty,
        interactive: args.interactive,
        init: args.init,
        remove: args.rm || args.rmi,
        remove_image: args.rmi,
        restart,
        pull: args.pull.into(),
        health,
        driver: args.driver,
        accelerator: args.accel.into(),
        stop_signal: args.stop_signal.map(|text| signal::parse(&text)).transpose()?,
        stop_timeout: args.stop_timeout,
        start_timeout: args.start_timeout,
        log: log::config(&args.log_driver, &args.log_opt)?,
        no_hosts: args.no_hosts,
        timeout: args.timeout,
        health_on_failure: health_action(&args.health_on_failure)?,
        registry: args.registry.for_machine()?,
        ..MachineSpec::new(image)
    };
    args.environment.apply(&mut spec)?;
    args.networking.apply(&mut spec)?;
    args.labels.apply(&mut spec)?;
    Ok((spec, args.files))
}

fn entrypoint(text: &str) -> Result<Vec<String>, CliError> {
    if text.starts_with('[') {
        return serde_json::from_str(text)
            .map_err(|_| CliError::usage(format!("--entrypoint {text:?} is not a JSON array of strings")));
    }
    Ok(vec![text.to_owned()])
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
    Err(CliError::usage(format!("--hostname {text:?} is not a host name of at most 64 characters")))
}

pub(crate) fn key_value(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

pub(crate) fn memory(text: &str) -> Result<u32, CliError> {
    let mib = size(text)?.div_ceil(MIB);
    u32::try_from(mib).map_err(|_| CliError::usage(format!("--memory {text} is too large")))
}

fn add_host(text: &str) -> Result<(String, String), CliError> {
    match text.split_once(':') {
        Some((name, ip))
            if is_host(name) && (ip == HOST_GATEWAY || ip.parse::<std::net::IpAddr>().is_ok()) =>
        {
            Ok((name.to_owned(), ip.to_owned()))
        }
        _ => Err(CliError::usage(format!("--add-host {text:?} is not NAME:IP or NAME:{HOST_GATEWAY}"))),
    }
}

fn is_host(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#')
}

fn health_spec(args: &MachineArgs) -> Result<Option<HealthSpec>, CliError> {
    let probe = match (&args.health_cmd, &args.health_url) {
        _ if args.no_healthcheck => HealthProbe::Command(Vec::new()),
        (Some(command), _) => HealthProbe::Command(health_command(command)?),
        (None, Some(url)) if url.starts_with("http://") => HealthProbe::Url(url.clone()),
        (None, Some(url)) => {
            return Err(CliError::usage(format!("--health-url {url:?} does not start with http://")));
        }
        (None, None) => return Ok(None),
    };
    Ok(Some(HealthSpec {
        probe,
        interval: health_interval(&args.health_interval)?,
        timeout: duration("--health-timeout", &args.health_timeout)?,
        retries: args.health_retries.max(1),
        start_period: duration_or_zero("--health-start-period", &args.health_start_period)?,
    }))
}

/// The command of a health check, in podman's forms: a JSON array, `CMD` and words, or a line for the shell. An empty
/// command, or `none`, disables the image's check. What follows `CMD` or `CMD-SHELL` in an array is read as in an image.
fn health_command(text: &str) -> Result<Vec<String>, CliError> {
    let words = match serde_json::from_str::<Vec<String>>(text) {
        Ok(words) if words.is_empty() => {
            return Err(CliError::usage(
                "--health-cmd [] is no command: give one, or none to disable the check",
            ));
        }
        Ok(words) => words,
        Err(_) => match text.split_once(' ') {
            _ if text.is_empty() || text == "none" => return Ok(Vec::new()),
            Some(("CMD", rest)) => return Ok(rest.split_whitespace().map(str::to_owned).collect()),
            Some(("CMD-SHELL", rest)) => return Ok(health::shell(rest)),
            _ => return Ok(health::shell(text)),
        },
    };
    Ok(match words.split_first() {
        Some((kind, [])) if kind == "NONE" => Vec::new(),
        Some((kind, rest)) if kind == "CMD" => rest.to_vec(),
        Some((kind, rest)) if kind == "CMD-SHELL" => health::shell(&rest.join(" ")),
        _ => words,
    })
}

/// podman's `disable` is an interval of zero.
fn health_interval(text: &str) -> Result<Duration, CliError> {
    if text == "disable" { Ok(Duration::ZERO) } else { duration_or_zero("--health-interval", text) }
}

fn health_action(text: &str) -> Result<HealthAction, CliError> {
    use HealthAction::{Kill, None, Restart, Stop};
    let known = [None, Kill, Restart, Stop].into_iter().find(|action| action.name() == text);
    // podman takes an empty action for none.
    known.or(text.is_empty().then_some(None)).ok_or_else(|| {
        CliError::usage(format!(
            "invalid on-failure action {text:?} for health check: supported actions are none,kill,restart,stop"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_commands_have_podmans_forms() {
        let parsed = |text| health_command(text).expect("a command");
        for (text, expected) in [
            (r#"["ls","-l"]"#, &["ls", "-l"][..]),
            (r#"["CMD","ls","a b"]"#, &["ls", "a b"]),
            (r#"["CMD-SHELL","a || b"]"#, &["/bin/sh", "-c", "a || b"]),
            (r#"["NONE"]"#, &[]),
            ("CMD ls -l", &["ls", "-l"]),
            ("CMD-SHELL ls -l", &["/bin/sh", "-c", "ls -l"]),
            ("ls -l", &["/bin/sh", "-c", "ls -l"]),
            // podman gives what is no array of strings to the shell.
            (r#"["ls", 1]"#, &["/bin/sh", "-c", r#"["ls", 1]"#]),
            ("none", &[]),
            ("", &[]),
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
        assert!(health_command("[]").is_err());
        assert_eq!(health_interval("disable").expect("an interval"), Duration::ZERO);
        assert!(health_interval("disabled").is_err());
        assert_eq!(health_action("").expect("an action"), HealthAction::None);
        assert!(health_action("KILL").is_err());
    }
}
