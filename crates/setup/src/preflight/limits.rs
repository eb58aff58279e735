//! Resource limits: open files, and the cgroup controllers.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::Check;

/// Enough for a supervisor, its VMM and the sockets of fifty clones.
const MIN_OPEN_FILES: u64 = 4096;
const CONTROLLERS: &str = "/sys/fs/cgroup/cgroup.controllers";
/// The controllers that enforce `--cpus` and `--memory`, and that stop a fork bomb.
const REQUIRED_CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

pub(super) fn checks() -> Vec<Check> {
    vec![open_files(), cgroups(fs::read_to_string(CONTROLLERS).ok().as_deref())]
}

/// Checks the hard limit: a process may raise its soft limit to it.
fn open_files() -> Check {
    const NAME: &str = "open-files";
    match getrlimit(Resource::Nofile).maximum {
        Some(limit) if limit < MIN_OPEN_FILES => {
            let hint = format!("ulimit -Hn {MIN_OPEN_FILES}   # as root, in the shell that starts mimeo");
            Check::limited(NAME, format!("{limit} at most: few machines can run at once"), Some(hint))
        }
        Some(limit) => Check::ok(NAME, format!("{limit} at most")),
        None => Check::ok(NAME, "unlimited"),
    }
}

fn cgroups(controllers: Option<&str>) -> Check {
    const NAME: &str = "cgroups";
    let hint = || Some("boot the host with systemd.unified_cgroup_hierarchy=1".to_owned());
    let Some(controllers) = controllers else {
        return Check::limited(NAME, "no cgroup v2: the VMM's use of the host cannot be limited", hint());
    };
    let available: Vec<_> = controllers.split_whitespace().collect();
    let missing: Vec<_> = REQUIRED_CONTROLLERS.into_iter().filter(|name| !available.contains(name)).collect();
    if missing.is_empty() {
        return Check::ok(NAME, format!("version 2 with {controllers}").trim_end());
    }
    Check::limited(NAME, format!("version 2 without {}: these cannot be limited", missing.join(", ")), hint())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Status;

    #[test]
    fn missing_controllers_are_named() {
        assert_eq!(cgroups(None).status, Status::Limited);
        assert_eq!(cgroups(Some("cpuset cpu io memory pids\n")).status, Status::Ok);
        let partial = cgroups(Some("cpu pids\n"));
        assert_eq!(partial.detail, "version 2 without memory: these cannot be limited");
    }
}
