//! Figures for Prometheus.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use mimeo_manager_api::{Machine, Operation};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::App;
use crate::database::DatabaseError;
use crate::problems::name_of;

type Labels = Vec<(&'static str, String)>;
type Seconds = Gauge<f64, AtomicU64>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// Upper bounds of request times, in seconds.
const REQUEST_BUCKETS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0];
/// Upper bounds of operation times, in seconds.
const OPERATION_BUCKETS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0];

/// The figures that are counted as things happen; the others are read when they are asked for.
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

    fn register(&self, registry: &mut Registry) {
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

/// All figures, in the text format.
pub(crate) async fn text(app: &App) -> Result<String, DatabaseError> {
    let mut registry = Registry::with_prefix("mimeo");
    app.metrics().register(&mut registry);
    let begin = std::time::Instant::now();
    app.database().check().await?;
    gauge(&mut registry, "database_ping_seconds", "Time of a query", begin.elapsed().as_secs_f64());
    let (machines, running) = (Family::<Labels, Gauge>::default(), Family::<Labels, Gauge>::default());
    for (state, count) in app.database().count_machines().await? {
        machines.get_or_create(&vec![("state", state)]).set(count);
    }
    registry.register("machines", "Machines by state", machines);
    for row in app.database().unfinished_operations().await? {
        running.get_or_create(&vec![("kind", name_of(&row.item.kind))]).inc();
    }
    registry.register("operations_running", "Operations that are being carried out", running);
    let last_event = *app.database().last_event().borrow();
    gauge(&mut registry, "last_event_seq", "The number of the last event", last_event as f64);
    let build = Family::<Labels, Gauge>::default();
    build.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION").to_owned())]).set(1);
    registry.register("build_info", "The program", build);
    let mut process = Registry::default();
    register_process(&mut process);
    let mut text = String::new();
    // Writing to a string cannot fail.
    encode(&mut text, &registry).ok();
    let text = text.trim_end().trim_end_matches("# EOF").to_owned();
    let mut rest = String::new();
    encode(&mut rest, &process).ok();
    Ok(text + &rest)
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: f64) {
    let gauge = Seconds::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

/// Figures of this process, by the names that Prometheus knows.
fn register_process(registry: &mut Registry) {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let resident = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok()).unwrap_or_default();
    let bytes = resident * rustix::param::page_size() as u64;
    gauge(registry, "process_resident_memory_bytes", "Resident memory", bytes as f64);
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    gauge(registry, "process_open_fds", "Open file descriptors", open as f64);
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    gauge(registry, "process_threads", "Threads", threads as f64);
}
