//! Health checks.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A health check: `command` or `url`. Without either, the image's check, of which only `on_failure` can be set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthCheck {
    /// A program and its arguments, run in the container: exit code 0 is healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1)]
    pub command: Option<Vec<String>>,
    /// An `http://` URL that is fetched in the guest: statuses 2xx and 3xx are healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Seconds between checks. 0: only those that a client requests. Default: 30.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub interval_seconds: Option<f64>,
    /// Timeout of a check in seconds. Default: 30.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(exclusive_minimum = 0)]
    pub timeout_seconds: Option<f64>,
    /// Consecutive failures that make the machine unhealthy. Default: 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub retries: Option<u32>,
    /// Seconds after the start in which failures do not count. Default: 60.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub start_period_seconds: Option<f64>,
    /// What is done when the machine becomes unhealthy. Default: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<HealthOnFailure>,
}

/// What is done with a machine that becomes unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HealthOnFailure {
    /// Nothing.
    None,
    /// The container is killed. The restart policy does not apply.
    Kill,
    /// The machine is stopped and started again.
    Restart,
    /// The machine is stopped. The restart policy does not apply.
    Stop,
}
