//! Selects a machine's health check.

use std::time::Duration;

use mimeo_image::{Healthcheck, ImageConfig};

use crate::machine::{HealthProbe, HealthSpec, MachineSpec};

/// Returns the user's health check, or else the image's.
/// None if there is none, or if it is disabled.
#[must_use]
pub fn effective_health(spec: &MachineSpec, image: &ImageConfig) -> Option<HealthSpec> {
    let health = spec.health.clone().or_else(|| image.healthcheck.as_ref().and_then(from_image));
    health.filter(|health| health.probe != HealthProbe::Command(Vec::new()))
}

/// Converts an image's check: `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", text]`.
fn from_image(check: &Healthcheck) -> Option<HealthSpec> {
    let command = match check.test.split_first() {
        Some((kind, rest)) if kind == "CMD" => rest.to_vec(),
        Some((kind, rest)) if kind == "CMD-SHELL" => shell(&rest.join(" ")),
        _ => return None,
    };
    let mut health = HealthSpec::new(HealthProbe::Command(command));
    let set = |time: &mut Duration, nanos: u64| {
        if nanos > 0 {
            *time = Duration::from_nanos(nanos);
        }
    };
    set(&mut health.interval, check.interval_ns);
    set(&mut health.timeout, check.timeout_ns);
    set(&mut health.start_period, check.start_period_ns);
    if check.retries > 0 {
        health.retries = check.retries;
    }
    Some(health)
}

/// Returns the command that runs `text` in the container's shell.
#[must_use]
pub fn shell(text: &str) -> Vec<String> {
    ["/bin/sh", "-c", text].map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(test: &[&str]) -> Option<HealthSpec> {
        let test = test.iter().map(ToString::to_string).collect();
        from_image(&Healthcheck { test, interval_ns: 5_000_000_000, ..Healthcheck::default() })
    }

    #[test]
    fn all_forms_of_an_images_healthcheck_are_read() {
        assert_eq!(check(&["NONE"]), None);
        assert_eq!(check(&[]), None);
        let direct = check(&["CMD", "probe", "-x"]).expect("a check");
        assert_eq!(direct.probe, HealthProbe::Command(vec!["probe".into(), "-x".into()]));
        assert_eq!(direct.interval, Duration::from_secs(5));
        let through_shell = check(&["CMD-SHELL", "a || b"]).expect("a check");
        assert_eq!(through_shell.probe, HealthProbe::Command(shell("a || b")));
    }
}
