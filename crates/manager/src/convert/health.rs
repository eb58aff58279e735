//! Health checks.

use std::time::Duration;

use mimeo_engine::machine::{HealthAction, HealthProbe, HealthSpec, MachineSpec};
use mimeo_manager_api as api;

use super::check::{command, require};
use super::choice::{api_health_action, health_action};
use super::error::{ConvertError, Converted};

/// The longest time that can be given, in seconds.
const MAX_SECONDS: f64 = 1e7;

/// Sets the health check of a spec.
pub(super) fn apply(wire: &api::CreateMachine, spec: &mut MachineSpec) -> Converted<()> {
    if wire.no_healthcheck {
        require(wire.health.is_none(), "no_healthcheck", "it excludes health")?;
        spec.health = Some(HealthSpec::new(HealthProbe::Command(Vec::new())));
    }
    let Some(health) = &wire.health else { return Ok(()) };
    spec.health_on_failure = health.on_failure.map_or(HealthAction::None, health_action);
    spec.health = match probe(health)? {
        Some(probe) => Some(with_times(HealthSpec::new(probe), health)?),
        None => refuse_times(health)?,
    };
    Ok(())
}

fn probe(health: &api::HealthCheck) -> Converted<Option<HealthProbe>> {
    match (&health.command, &health.url) {
        (Some(_), Some(_)) => Err(ConvertError::new("health.url", "it excludes health.command")),
        (Some(words), None) => {
            let message = "it is empty: set no_healthcheck to disable the image's check";
            require(!words.is_empty(), "health.command", message)?;
            command("health.command", words)?;
            Ok(Some(HealthProbe::Command(words.clone())))
        }
        (None, Some(url)) => {
            require(
                url.starts_with("http://"),
                "health.url",
                format!("{url:?} does not begin with http://"),
            )?;
            Ok(Some(HealthProbe::Url(url.clone())))
        }
        (None, None) => Ok(None),
    }
}

fn with_times(mut spec: HealthSpec, health: &api::HealthCheck) -> Converted<HealthSpec> {
    let set = |time: &mut Duration, field: &str, seconds: Option<f64>, may_be_zero: bool| {
        let Some(seconds) = seconds else { return Ok(()) };
        let is_valid = (0.0..=MAX_SECONDS).contains(&seconds) && (may_be_zero || seconds > 0.0);
        require(is_valid, field, format!("{seconds} is not a number of seconds up to {MAX_SECONDS}"))?;
        *time = Duration::from_secs_f64(seconds);
        Ok(())
    };
    set(&mut spec.interval, "health.interval_seconds", health.interval_seconds, true)?;
    set(&mut spec.timeout, "health.timeout_seconds", health.timeout_seconds, false)?;
    set(&mut spec.start_period, "health.start_period_seconds", health.start_period_seconds, true)?;
    require(health.retries != Some(0), "health.retries", "0 failures cannot make a machine unhealthy")?;
    spec.retries = health.retries.unwrap_or(spec.retries);
    Ok(spec)
}

/// Refuses times without a check: those of the image's check are the image's.
fn refuse_times(health: &api::HealthCheck) -> Converted<Option<HealthSpec>> {
    let given = [
        ("health.interval_seconds", health.interval_seconds.is_some()),
        ("health.timeout_seconds", health.timeout_seconds.is_some()),
        ("health.start_period_seconds", health.start_period_seconds.is_some()),
        ("health.retries", health.retries.is_some()),
    ];
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((field, _)) => Err(ConvertError::new(*field, "it needs health.command or health.url")),
        None => Ok(None),
    }
}

/// The health check of a spec; none if it has none, or disables the image's.
pub(super) fn api_health(spec: &MachineSpec) -> Option<api::HealthCheck> {
    let on_failure = match spec.health_on_failure {
        HealthAction::None => None,
        action => Some(api_health_action(action)),
    };
    let Some(health) = spec.health.as_ref().filter(|_| !is_disabled(spec)) else {
        return on_failure.map(|action| api::HealthCheck { on_failure: Some(action), ..Default::default() });
    };
    let (command, url) = match &health.probe {
        HealthProbe::Command(words) => (Some(words.clone()), None),
        HealthProbe::Url(url) => (None, Some(url.clone())),
    };
    Some(api::HealthCheck {
        command,
        url,
        interval_seconds: Some(health.interval.as_secs_f64()),
        timeout_seconds: Some(health.timeout.as_secs_f64()),
        retries: Some(health.retries),
        start_period_seconds: Some(health.start_period.as_secs_f64()),
        on_failure,
    })
}

/// Whether a spec disables the image's check.
pub(super) fn is_disabled(spec: &MachineSpec) -> bool {
    let disabled = HealthProbe::Command(Vec::new());
    spec.health.as_ref().is_some_and(|health| health.probe == disabled)
}
