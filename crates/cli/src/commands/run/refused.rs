//! podman's options of `run` that make no sense for a machine: each is recognised, and refused with the reason.

use clap::{Arg, ArgAction, ArgMatches, Command, parser::ValueSource};

use crate::error::CliError;

/// An option that is refused.
#[derive(Debug)]
struct Refused {
    name: &'static str,
    short: Option<char>,
    value: Takes,
    /// Values that ask for what a machine does anyway.
    accepted: &'static [&'static str],
    reason: &'static str,
}

/// Whether an option takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Value,
    /// A flag, which may be written `--flag=false`.
    Flag,
}

const NO_SHARED_NAMESPACES: &str =
    "a machine has a kernel of its own and shares no namespace with the host or with others";
const NO_USER_NAMESPACE: &str = "a machine needs no user namespace: root in it is root of its own kernel, and an ordinary user on the host";
const NO_CGROUP: &str = "a machine is limited by --cpus and --memory, not by a cgroup of the host";
const NO_HOST_SCHEDULING: &str = "the host's scheduler sees a machine as one process: limit it with --cpus, or start mimeo under nice or taskset";
const NO_BLOCK_LIMITS: &str =
    "the host's disks are not devices of the machine: --disk limits the space that it writes";
const NO_DEVICES: &str = "devices of the host cannot be passed to a machine";
const NO_PODS: &str = "mimeo has no pods: each machine is on its own";
const NO_RELATIONS: &str = "machines do not depend on each other: start them in order";
const NO_NAMES: &str = "machines are not found by name in a network: publish ports, or use --add-host";
const OWN_PASSWD: &str =
    "mimeo changes no /etc/passwd: use --user with a number, or an image that has the user";
const OWN_OOM: &str =
    "memory that runs out is the matter of the machine's own kernel: give it more with --memory";

const fn option(name: &'static str, reason: &'static str) -> Refused {
    Refused { name, short: None, value: Takes::Value, accepted: &[], reason }
}

const fn unless(name: &'static str, accepted: &'static [&'static str], reason: &'static str) -> Refused {
    Refused { name, short: None, value: Takes::Value, accepted, reason }
}

const fn flag(name: &'static str, accepted: &'static [&'static str], reason: &'static str) -> Refused {
    Refused { name, short: None, value: Takes::Flag, accepted, reason }
}

/// The table.
const REFUSED: [Refused; 53] = [
    option("blkio-weight", NO_BLOCK_LIMITS),
    option("blkio-weight-device", NO_BLOCK_LIMITS),
    option("cgroup-conf", NO_CGROUP),
    option("cgroup-parent", NO_CGROUP),
    unless("cgroupns", &["private", ""], NO_SHARED_NAMESPACES),
    unless("cgroups", &["enabled", "no-conmon"], NO_CGROUP),
    option("chrootdirs", "the container's root is the image, and no other directory of the host"),
    option("cpu-period", NO_HOST_SCHEDULING),
    option("cpu-quota", NO_HOST_SCHEDULING),
    option("cpu-rt-period", NO_HOST_SCHEDULING),
    option("cpu-rt-runtime", NO_HOST_SCHEDULING),
    Refused { short: Some('c'), ..option("cpu-shares", NO_HOST_SCHEDULING) },
    option("cpuset-cpus", NO_HOST_SCHEDULING),
    option("cpuset-mems", NO_HOST_SCHEDULING),
    option("device", NO_DEVICES),
    option("device-cgroup-rule", NO_DEVICES),
    option("device-read-bps", NO_BLOCK_LIMITS),
    option("device-read-iops", NO_BLOCK_LIMITS),
    option("device-write-bps", NO_BLOCK_LIMITS),
    option("device-write-iops", NO_BLOCK_LIMITS),
    option("gidmap", NO_USER_NAMESPACE),
    option("gpus", NO_DEVICES),
    option("hostuser", OWN_PASSWD),
    option("init-path", "--init runs mimeo's own init, which is in every guest"),
    option("ip6", "a machine's IPv6 address follows from its IPv4 address: choose that one with --ip"),
    unless("ipc", &["private", ""], NO_SHARED_NAMESPACES),
    option("link", NO_NAMES),
    option("memory-reservation", "a machine's memory is --memory, and the host gives it as it is used"),
    unless("memory-swappiness", &["-1"], "a machine swaps by its own kernel's settings"),
    option("network-alias", NO_NAMES),
    flag("oom-kill-disable", &["false"], OWN_OOM),
    flag("passwd", &["true", "false"], OWN_PASSWD),
    option("passwd-entry", OWN_PASSWD),
    option("personality", "the container runs with the personality of the machine's own kernel"),
    unless("pid", &["private", ""], NO_SHARED_NAMESPACES),
    option("pod", NO_PODS),
    option("pod-id-file", NO_PODS),
    unless(
        "preserve-fds",
        &["0"],
        "file descriptors of the host do not exist in a machine: use --volume or standard input",
    ),
    option("requires", NO_RELATIONS),
    flag(
        "rootfs",
        &["false"],
        "a machine runs an image: make one with `tar -C DIR -c . | mimeo import - NAME`",
    ),
    option(
        "runtime",
        "a machine's container is started by the agent in its guest, not by an OCI runtime of the host",
    ),
    unless(
        "sdnotify",
        &["ignore"],
        "mimeo does not notify systemd: in a unit, use Type=exec and --sdnotify=ignore",
    ),
    unless(
        "seccomp-policy",
        &["default"],
        "system calls of the container reach its own kernel, not the host's",
    ),
    option("secret", "mimeo keeps no secrets: pass a file with --volume FILE:FILE:ro"),
    option("storage-opt", "use --disk to limit the space that a machine writes"),
    option("subgidname", NO_USER_NAMESPACE),
    option("subuidname", NO_USER_NAMESPACE),
    unless("systemd", &["true", "false"], "mimeo does not prepare a container for systemd"),
    option("uidmap", NO_USER_NAMESPACE),
    unless("userns", &["", "private", "auto"], NO_USER_NAMESPACE),
    unless("uts", &["private", ""], NO_SHARED_NAMESPACES),
    unless("isolation", &["", "default"], "a machine is the isolation"),
    option("domainname", "give the whole name with --hostname"),
];

/// The refused options of a command line.
#[derive(Debug, Clone, Default)]
pub(crate) struct RefusedOptions {
    refusal: Option<String>,
}

impl RefusedOptions {
    /// An error if one of the options was given.
    pub(crate) fn check(&self) -> Result<(), CliError> {
        match &self.refusal {
            Some(refusal) => Err(CliError::usage(refusal.clone())),
            None => Ok(()),
        }
    }
}

impl Refused {
    fn arg(&self) -> Arg {
        let arg = Arg::new(self.name).long(self.name).hide(true).action(ArgAction::Append);
        let arg = match self.short {
            Some(short) => arg.short(short),
            None => arg,
        };
        match self.value {
            Takes::Value => arg.allow_hyphen_values(true),
            Takes::Flag => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        }
    }

    /// Why the values are refused, if they are.
    fn refusal(&self, matches: &ArgMatches) -> Option<String> {
        if matches.value_source(self.name) != Some(ValueSource::CommandLine) {
            return None;
        }
        let mut values = matches.get_many::<String>(self.name).into_iter().flatten();
        let value = values.find(|value| !self.accepted.contains(&value.as_str()))?;
        let given = if self.accepted.is_empty() || value == "true" { "" } else { value };
        let given = if given.is_empty() { String::new() } else { format!("={given}") };
        Some(format!("cannot use --{}{given}: {}", self.name, self.reason))
    }
}

impl clap::FromArgMatches for RefusedOptions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self { refusal: REFUSED.iter().find_map(|option| option.refusal(matches)) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for RefusedOptions {
    fn augment_args(command: Command) -> Command {
        REFUSED.iter().fold(command, |command, option| command.arg(option.arg()))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
