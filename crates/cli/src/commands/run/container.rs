//! The options of `run` that say what the container may do and use: podman's names and values.

mod capabilities;
mod cpus;
mod memory_swap;
mod security;
mod sysctl;
mod tmpfs;
mod ulimit;

use mimeo_engine::machine::ContainerOptions;
use mimeo_engine::time_zone;

pub(crate) use cpus::{Cpus, parse as cpus};

use crate::error::CliError;
use crate::values::size;

/// What the container may do and use.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Container")]
pub(crate) struct ContainerArgs {
    /// Give the container the whole guest: all capabilities and devices, writable /sys and kernel settings
    #[arg(long)]
    privileged: bool,
    /// Add a Linux capability, or ALL; can be repeated. The default capabilities are podman's
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    cap_add: Vec<String>,
    /// Drop a Linux capability, or ALL; can be repeated
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    cap_drop: Vec<String>,
    /// no-new-privileges: programs gain no privileges by setuid bits or file capabilities. Accepted without
    /// effect in a machine: label=disable, seccomp=unconfined, apparmor=unconfined
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Add the user to a group; can be repeated
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    group_add: Vec<String>,
    /// Set a resource limit such as nofile=1024:2048; -1 is unlimited; can be repeated
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_delimiter = ',')]
    ulimit: Vec<String>,
    /// Maximum number of processes and threads in the container; -1 is unlimited, the default
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Memory plus swap. The guest has no swap: only the value of --memory, 0 and -1 (unlimited) are possible
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Set a kernel setting of the guest; can be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<String>,
    /// Make the container's root filesystem read-only
    #[arg(long)]
    read_only: bool,
    /// With --read-only: mount temporary filesystems on /run, /tmp and /var/tmp
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    read_only_tmpfs: bool,
    /// Mount a temporary filesystem; can be repeated
    #[arg(long, value_name = "PATH[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "SIZE", default_value = "64m")]
    shm_size: String,
    /// Time zone: a name such as Asia/Tokyo, or local for this host's
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
    /// File mode creation mask in octal digits
    #[arg(long, value_name = "MASK", default_value = "0022")]
    umask: String,
    /// Adjust the score by which the guest's kernel kills a process when memory runs out: -1000 to 1000
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    oom_score_adj: Option<i64>,
}

impl ContainerArgs {
    /// Adds a temporary filesystem, as `--tmpfs` does.
    pub(super) fn push_tmpfs(&mut self, text: String) {
        self.tmpfs.push(text);
    }

    /// The options of a machine with this much memory.
    pub(super) fn options(self, cpus: &Cpus, memory_bytes: u64) -> Result<ContainerOptions, CliError> {
        let no_new_privileges = security::no_new_privileges(&self.security_opt)?;
        let (cap_add, cap_drop) = capabilities::parse(&self.cap_add, &self.cap_drop)?;
        if let Some(name) = &self.tz {
            time_zone::data(name)?;
        }
        Ok(ContainerOptions {
            privileged: self.privileged,
            cap_add,
            cap_drop,
            no_new_privileges,
            security_opt: self.security_opt,
            group_add: self.group_add.into_iter().map(group).collect::<Result<_, _>>()?,
            ulimits: ulimit::parse_all(&self.ulimit)?,
            pids_limit: self.pids_limit.map(pids_limit).transpose()?.flatten(),
            nano_cpus: cpus.quota_nanos,
            memory_swap: self.memory_swap.map(|text| memory_swap::parse(&text, memory_bytes)).transpose()?,
            sysctls: sysctl::parse_all(&self.sysctl)?,
            read_only: self.read_only,
            tmpfs: tmpfs::parse_all(&self.tmpfs, self.read_only && self.read_only_tmpfs)?,
            shm_bytes: Some(shm_size(&self.shm_size)?),
            time_zone: self.tz,
            umask: Some(umask(&self.umask)?),
            oom_score_adj: self.oom_score_adj.map(oom_score_adj).transpose()?,
        })
    }
}

fn group(name: String) -> Result<String, CliError> {
    match name.as_str() {
        "keep-groups" => Err(CliError::usage(
            "cannot use --group-add keep-groups: the guest has none of the groups of this host's user",
        )),
        "" => Err(CliError::usage("--group-add \"\" does not name a group")),
        _ => Ok(name),
    }
}

/// podman's 0 and -1 are unlimited.
fn pids_limit(limit: i64) -> Result<Option<u64>, CliError> {
    match limit {
        0 | -1 => Ok(None),
        1.. => Ok(Some(limit.unsigned_abs())),
        _ => Err(CliError::usage(format!(
            "--pids-limit {limit} is not a number of processes, or -1 for no limit"
        ))),
    }
}

fn oom_score_adj(score: i64) -> Result<i32, CliError> {
    let valid = i32::try_from(score).ok().filter(|score| (-1000..=1000).contains(score));
    valid.ok_or_else(|| {
        CliError::usage(format!("--oom-score-adj must be between -1000 and 1000, not {score}"))
    })
}

fn shm_size(text: &str) -> Result<u64, CliError> {
    match size(text)? {
        0 => Err(CliError::usage("--shm-size must be greater than 0")),
        bytes => Ok(bytes),
    }
}

fn umask(text: &str) -> Result<u32, CliError> {
    let mask = u32::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777 && !text.starts_with('+'));
    mask.ok_or_else(|| {
        CliError::usage(format!("--umask {text:?} is not a mask of octal digits, such as 0022"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_octal() {
        assert_eq!(umask("0022").ok(), Some(0o22));
        assert_eq!(umask("77").ok(), Some(0o77));
        for bad in ["", "99", "-1", "+1", "1000", "rwx"] {
            assert!(umask(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_process_limit_is_podmans() {
        assert_eq!(pids_limit(-1).ok(), Some(None));
        assert_eq!(pids_limit(0).ok(), Some(None));
        assert_eq!(pids_limit(5).ok(), Some(Some(5)));
        assert!(pids_limit(-2).is_err());
    }
}
