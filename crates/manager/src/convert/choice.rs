//! Choices among a few words.

use mimeo_engine::log::{LogConfig, LogDriver};
use mimeo_engine::machine::{
    HealthAction, ImageVolumes, MachineSpec, NetworkMode, PullPolicy, RestartPolicy,
};
use mimeo_manager_api as api;
use mimeo_net::Protocol;

use super::check::require;
use super::error::{ConvertError, Converted, InField};

/// The smallest size at which a log is rotated: a rotation for every other line would slow the container down.
const MIN_LOG_BYTES: u64 = 1024;
/// The largest number of log files.
const MAX_LOG_FILES: u32 = 1000;

/// Two functions that convert the variants of one enum into those of another.
macro_rules! same_variants {
    ($to_engine:ident, $to_api:ident, $name:ident, $api_name:ident: $($variant:ident),+) => {
        pub(super) fn $to_engine(value: api::$api_name) -> $name {
            match value { $(api::$api_name::$variant => $name::$variant),+ }
        }

        pub(super) fn $to_api(value: $name) -> api::$api_name {
            match value { $($name::$variant => api::$api_name::$variant),+ }
        }
    };
}

same_variants!(pull_policy, api_pull_policy, PullPolicy, PullPolicy: Always, Missing, Newer, Never);
same_variants!(image_volumes, api_image_volumes, ImageVolumes, ImageVolumes: Anonymous, Tmpfs, Ignore);
same_variants!(network_mode, api_network_mode, NetworkMode, NetworkMode: Auto, Rootless, Bridged, None);
same_variants!(protocol, api_protocol, Protocol, Protocol: Tcp, Udp);
same_variants!(health_action, api_health_action, HealthAction, HealthOnFailure: None, Kill, Restart, Stop);
same_variants!(log_driver, api_log_driver, LogDriver, LogDriver: K8sFile, None);

/// The word of an accelerator, which the engine parses.
pub(super) fn accelerator_name(accelerator: api::Accelerator) -> &'static str {
    match accelerator {
        api::Accelerator::Auto => "auto",
        api::Accelerator::Kvm => "kvm",
        api::Accelerator::Tcg => "tcg",
    }
}

/// Sets the accelerator of a spec, if there is a choice.
///
/// # Errors
/// If the engine does not know it.
pub fn set_accelerator(
    spec: &mut MachineSpec,
    accelerator: Option<api::Accelerator>,
) -> Result<(), ConvertError> {
    if let Some(accelerator) = accelerator {
        spec.accelerator = accelerator_name(accelerator).parse().in_field("accelerator")?;
    }
    Ok(())
}

/// The accelerator of this word.
pub(super) fn api_accelerator(name: &str) -> api::Accelerator {
    match name {
        "kvm" => api::Accelerator::Kvm,
        "tcg" => api::Accelerator::Tcg,
        _ => api::Accelerator::Auto,
    }
}

pub(super) fn restart_policy(restart: &api::Restart) -> Converted<RestartPolicy> {
    let on_failure = restart.policy == api::RestartKind::OnFailure;
    let retries = restart.max_retries;
    require(on_failure || retries.is_none(), "restart.max_retries", "it applies to on-failure only")?;
    require(retries != Some(0), "restart.max_retries", "0 is no number of restarts: omit it for no limit")?;
    Ok(match restart.policy {
        api::RestartKind::No => RestartPolicy::No,
        api::RestartKind::OnFailure => RestartPolicy::OnFailure { max: retries },
        api::RestartKind::Always => RestartPolicy::Always,
        api::RestartKind::UnlessStopped => RestartPolicy::UnlessStopped,
    })
}

/// Converts a restart policy into a request.
#[must_use]
pub fn api_restart(policy: RestartPolicy) -> api::Restart {
    let (policy, max_retries) = match policy {
        RestartPolicy::No => (api::RestartKind::No, None),
        RestartPolicy::OnFailure { max } => (api::RestartKind::OnFailure, max),
        RestartPolicy::Always => (api::RestartKind::Always, None),
        RestartPolicy::UnlessStopped => (api::RestartKind::UnlessStopped, None),
    };
    api::Restart { policy, max_retries }
}

pub(super) fn log_config(log: &api::Log) -> Converted<LogConfig> {
    let default = LogConfig::default();
    let driver = log.driver.map_or(default.driver, log_driver);
    let max_bytes = match log.max_bytes {
        None => default.max_bytes,
        Some(0) => None,
        Some(bytes) => Some(bytes),
    };
    let is_size = max_bytes.is_none_or(|bytes| bytes >= MIN_LOG_BYTES);
    require(is_size, "log.max_bytes", format!("give at least {MIN_LOG_BYTES}, or 0 for no limit"))?;
    let max_files = log.max_files.unwrap_or(default.max_files);
    let is_number = (1..=MAX_LOG_FILES).contains(&max_files);
    require(is_number, "log.max_files", format!("{max_files} is not between 1 and {MAX_LOG_FILES}"))?;
    Ok(LogConfig { driver, max_bytes, max_files })
}

pub(super) fn api_log(config: &LogConfig) -> api::Log {
    api::Log {
        driver: Some(api_log_driver(config.driver)),
        max_bytes: Some(config.max_bytes.unwrap_or(0)),
        max_files: Some(config.max_files),
    }
}
