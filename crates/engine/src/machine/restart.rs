//! Restart policies: whether a supervisor starts its machine again when the container has exited, and after which
//! delay. Pure: no I/O, no clock.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Record;

/// Delay before the first restart; it doubles with each one. The values are Docker's.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest delay.
const MAX_DELAY: Duration = Duration::from_secs(60);
/// A container that has run for this long resets the delay.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// When a machine is started again after its container has exited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// If the exit code is not zero.
    OnFailure {
        /// The number of restarts after which it is not started again; unlimited if absent.
        max: Option<u32>,
    },
    /// Whatever the exit code is, unless a user has stopped it; and after a reboot in any case.
    Always,
    /// As `Always`; but after a reboot only if no user has stopped it.
    UnlessStopped,
}

/// Why a text is not a restart policy.
#[derive(Debug, thiserror::Error)]
#[error("{given:?} is not a restart policy: use no, on-failure[:N], always or unless-stopped")]
pub struct ParseRestartPolicyError {
    given: String,
}

impl RestartPolicy {
    /// Returns its name, as podman's `RestartPolicy.Name`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnFailure { .. } => "on-failure",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnFailure { max: Some(max) } => write!(f, "on-failure:{max}"),
            other => f.write_str(other.name()),
        }
    }
}

impl FromStr for RestartPolicy {
    type Err = ParseRestartPolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || ParseRestartPolicyError { given: text.to_owned() };
        match text.split_once(':') {
            // podman takes an empty value for `no`.
            None if text.is_empty() || text == "no" => Ok(Self::No),
            None if text == "always" => Ok(Self::Always),
            None if text == "unless-stopped" => Ok(Self::UnlessStopped),
            None if text == "on-failure" => Ok(Self::OnFailure { max: None }),
            Some(("on-failure", max)) => match max.parse() {
                // podman's 0 means unlimited.
                Ok(0) => Ok(Self::OnFailure { max: None }),
                Ok(max) => Ok(Self::OnFailure { max: Some(max) }),
                Err(_) => Err(invalid()),
            },
            _ => Err(invalid()),
        }
    }
}

/// Returns whether the machine is started again after its container has exited with `code`.
#[must_use]
pub fn is_restart_due(record: &Record, code: i32) -> bool {
    // A machine with `--rm` is removed when it exits.
    if record.stopped_by_user || record.spec.remove {
        return false;
    }
    match record.spec.restart {
        RestartPolicy::No => false,
        RestartPolicy::OnFailure { max } => code != 0 && max.is_none_or(|max| record.restart_count < max),
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
    }
}

/// Returns whether the machine should be started after a reboot of the host.
#[must_use]
pub fn should_start_on_boot(record: &Record) -> bool {
    match record.spec.restart {
        RestartPolicy::Always => true,
        RestartPolicy::UnlessStopped => !record.stopped_by_user,
        RestartPolicy::No | RestartPolicy::OnFailure { .. } => false,
    }
}

/// The delays between the restarts of one machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Returns the delay before the next start of a container that ran for `uptime`.
    pub(crate) fn next_delay(&mut self, uptime: Duration) -> Duration {
        self.failures = if uptime >= STABLE_AFTER { 0 } else { self.failures };
        let factor = 2_u32.saturating_pow(self.failures);
        self.failures = self.failures.saturating_add(1);
        FIRST_DELAY.saturating_mul(factor).min(MAX_DELAY)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::machine::{MachineId, MachineSpec};

    fn record(restart: RestartPolicy) -> Record {
        let spec = MachineSpec { restart, ..MachineSpec::new("busybox") };
        Record::new(MachineId::random(), "web".parse().expect("a name"), spec)
    }

    #[test]
    fn policies_are_parsed_and_printed_as_podmans() {
        for text in ["no", "always", "unless-stopped", "on-failure", "on-failure:3"] {
            assert_eq!(text.parse::<RestartPolicy>().expect("a policy").to_string(), text);
        }
        assert_eq!("".parse::<RestartPolicy>().expect("a policy"), RestartPolicy::No);
        for bad in ["never", "always:3", "on-failure:", "on-failure:-1", "on-failure:x", "no:1"] {
            assert!(bad.parse::<RestartPolicy>().is_err(), "{bad}");
        }
    }

    #[test]
    fn on_failure_counts_restarts() {
        let mut record = record(RestartPolicy::OnFailure { max: Some(2) });
        assert!(is_restart_due(&record, 1) && !is_restart_due(&record, 0));
        record.restart_count = 2;
        assert!(!is_restart_due(&record, 1));
    }

    #[test]
    fn a_reboot_starts_what_no_user_has_stopped() {
        for (restart, running, stopped) in [
            (RestartPolicy::No, false, false),
            (RestartPolicy::OnFailure { max: None }, false, false),
            (RestartPolicy::Always, true, true),
            (RestartPolicy::UnlessStopped, true, false),
        ] {
            let mut record = record(restart);
            assert_eq!(should_start_on_boot(&record), running, "{restart}");
            record.stopped_by_user = true;
            assert_eq!(should_start_on_boot(&record), stopped, "{restart}");
            assert!(!is_restart_due(&record, 1), "{restart}");
        }
    }

    proptest! {
        /// The delay never shrinks while the container keeps failing early, stays within its bounds, and starts
        /// over after a stable run.
        #[test]
        fn delays_grow_and_are_bounded(uptimes in proptest::collection::vec(0..20_u64, 1..60)) {
            let (mut backoff, mut before) = (Backoff::default(), FIRST_DELAY);
            for uptime in uptimes.into_iter().map(Duration::from_secs) {
                let delay = backoff.next_delay(uptime);
                prop_assert!((FIRST_DELAY..=MAX_DELAY).contains(&delay));
                if uptime >= STABLE_AFTER {
                    prop_assert_eq!(delay, FIRST_DELAY);
                } else {
                    prop_assert!(delay >= before || before == MAX_DELAY);
                }
                before = delay;
            }
        }
    }
}
