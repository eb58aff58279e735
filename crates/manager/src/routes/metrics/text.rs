//! All figures: those that were counted, and those that are read when they are asked for.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::App;
use crate::database::DatabaseError;
use crate::metrics::Labels;
use crate::problems::name_of;

type Seconds = Gauge<f64, AtomicU64>;

/// All figures, in the text format.
pub(super) async fn text(app: &App) -> Result<String, DatabaseError> {
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
