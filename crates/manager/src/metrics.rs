//! Figures for Prometheus that are counted as things happen.

use std::time::Duration;

use mimeo_manager_api::{Machine, Operation};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::problems::name_of;

/// Names and values.
pub(crate) type Labels = Vec<(&'static str, String)>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// Upper bounds of request times, in seconds.
const REQUEST_BUCKETS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0];
/// Upper bounds of operation times, in seconds.
const OPERATION_BUCKETS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0];

/// The figures that are counted.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    requests: Family<Labels, Counter>,
    request_seconds: Histograms,
    operations: Family<Labels, Counter>,
    operation_seconds: Histograms,
    boots: Family<Labels, Counter>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(|| Histogram::new(REQUEST_BUCKETS)),
            operations: Family::default(),
            operation_seconds: Family::new_with_constructor(|| Histogram::new(OPERATION_BUCKETS)),
            boots: Family::default(),
        }
    }

    /// Counts a request.
    pub(crate) fn request_answered(&self, method: &'static str, route: &str, status: u16, time: Duration) {
        let mut labels = vec![("method", method.to_owned()), ("route", route.to_owned())];
        self.request_seconds.get_or_create(&labels).observe(time.as_secs_f64());
        labels.push(("status", status.to_string()));
        self.requests.get_or_create(&labels).inc();
    }

    /// Counts an operation that has finished, and how the machine was booted by it.
    pub(crate) fn operation_finished(&self, operation: &Operation, machine: Option<&Machine>) {
        let kind = ("kind", name_of(&operation.kind));
        let time = operation.finished_at.unwrap_or(operation.updated_at).duration_since(operation.created_at);
        self.operation_seconds.get_or_create(&vec![kind.clone()]).observe(time.as_secs_f64());
        self.operations.get_or_create(&vec![kind, ("status", name_of(&operation.status))]).inc();
        use mimeo_manager_api::OperationKind::{Create, Restart, Start};
        let method = machine.and_then(|machine| machine.boot_method.clone());
        if let (Create | Start | Restart, Some(method)) = (operation.kind, method) {
            self.boots.get_or_create(&vec![("method", method)]).inc();
        }
    }

    /// Adds them to those that are shown.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("http_requests", "Requests that were answered", self.requests.clone());
        let text = "Time until a request was answered, without the body of a stream";
        registry.register_with_unit(
            "http_request_duration",
            text,
            Unit::Seconds,
            self.request_seconds.clone(),
        );
        registry.register("operations_finished", "Operations that have finished", self.operations.clone());
        let text = "Time from the request of an operation to its end";
        registry.register_with_unit(
            "operation_duration",
            text,
            Unit::Seconds,
            self.operation_seconds.clone(),
        );
        registry.register("boots", "Starts of machines by operations, by boot method", self.boots.clone());
    }
}
