//! `setup preflight`: whether this host can run machines, and if not, how to
//! make it able to.
//!
//! Each check always returns a result. None changes the host, except that the
//! home and run directories are created.

mod acceleration;
mod host;
mod limits;
mod qemu;
mod state;

use std::path::Path;

use serde::Serialize;

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The name of the check: stable, in lower case with hyphens.
    pub name: &'static str,
    /// The result.
    pub status: Status,
    /// What was found, as text for people.
    pub detail: String,
    /// A command that fixes it, or an instruction where there is no such command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing to do.
    Ok,
    /// No machine can run until it is fixed.
    Missing,
    /// Machines run, with limitations.
    Limited,
}

/// The directories to check.
#[derive(Debug, Clone, Copy)]
pub struct Directories<'a> {
    /// `MIMEO_HOME`.
    pub home: &'a Path,
    /// `MIMEO_RUN`.
    pub run: &'a Path,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, detail: detail.into(), hint: None }
    }

    fn missing(name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, status: Status::Missing, detail: detail.into(), hint: Some(hint.into()) }
    }

    fn limited(name: &'static str, detail: impl Into<String>, hint: Option<String>) -> Self {
        Self { name, status: Status::Limited, detail: detail.into(), hint }
    }
}

/// Runs all checks, in the order in which problems are best fixed. Takes some
/// tens of milliseconds.
pub fn preflight(directories: Directories<'_>) -> Vec<Check> {
    let mut checks = vec![host::architecture()];
    checks.extend(qemu::checks());
    checks.push(acceleration::acceleration(directories));
    checks.push(acceleration::time_stamp_counter());
    checks.extend(state::checks(directories));
    checks.extend(host::checks());
    checks.extend(limits::checks());
    checks
}

/// Whether machines can run: no check has the status [`Status::Missing`].
pub fn is_ready(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.status != Status::Missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_in(home: &Path) -> Vec<Check> {
        preflight(Directories { home, run: home })
    }

    #[test]
    fn a_fresh_home_lacks_a_kernel_and_says_how_to_get_one() {
        let home = tempfile::tempdir().unwrap();
        let checks = run_in(home.path());
        let kernel = checks.iter().find(|check| check.name == "kernel").unwrap();
        assert_eq!(kernel.status, Status::Missing);
        assert_eq!(kernel.hint.as_deref(), Some("mimeo setup kernel"));
        assert!(!is_ready(&checks));
    }

    #[test]
    fn every_missing_item_has_a_hint() {
        let checks = run_in(Path::new("/proc/no-such-home"));
        let missing = checks.iter().filter(|check| check.status == Status::Missing);
        assert!(missing.clone().count() >= 2, "{checks:?}");
        missing.for_each(|check| assert!(check.hint.is_some(), "{check:?}"));
    }

    #[test]
    fn names_are_unique() {
        let home = tempfile::tempdir().unwrap();
        let checks = run_in(home.path());
        let names: std::collections::BTreeSet<_> = checks.iter().map(|check| check.name).collect();
        assert_eq!(names.len(), checks.len());
    }

    #[test]
    fn a_check_is_plain_json() {
        let check = Check::limited("cgroups", "no controllers", None);
        let json = serde_json::to_string(&check).unwrap();
        assert_eq!(json, r#"{"name":"cgroups","status":"limited","detail":"no controllers"}"#);
    }
}
