//! The fields of `mimeo ps --format`, with podman's names.

use jiff::Timestamp;
use mimeo_engine::machine::Phase;
use serde_json::{Value, json};

use super::{Args, Entry, id};
use crate::{humanize, view};

/// podman's headings of the fields.
pub(super) const HEADINGS: [(&str, &str); 2] = [("ID", "CONTAINER ID"), ("Id", "CONTAINER ID")];

/// The fields of one machine.
pub(super) fn fields(args: &Args, entry: &Entry, now: Timestamp) -> Value {
    let record = &entry.found.record;
    let created = view::go_time(record.times.created);
    let ago = humanize::ago(record.times.created, now);
    let seconds = |time: Option<Timestamp>| time.map_or(0, Timestamp::as_second);
    let image_id = record.image.as_ref().map(|image| view::bare_id(&image.id).to_owned()).unwrap_or_default();
    let id = id(args, &entry.found);
    json!({
        "ID": id,
        "Id": id,
        "Image": entry.image,
        "ImageID": if args.no_trunc { image_id } else { image_id.chars().take(12).collect() },
        "Command": humanize::command(&record.process.args, args.no_trunc),
        "CreatedAt": created,
        "Created": created,
        "CreatedHuman": ago,
        "RunningFor": ago,
        "Status": view::status(record, now),
        "State": view::state(record.phase()),
        "Health": record.health.as_ref().map(|health| health.status.to_string()).unwrap_or_default(),
        "Ports": view::ports(record),
        "Names": record.name,
        "Labels": record.spec.labels,
        "Mounts": entry.mounts,
        "Networks": record.network.as_ref().map(view::network_mode).unwrap_or_default(),
        "Pid": if record.phase().is_live() { record.supervisor.pid } else { 0 },
        "Exited": record.phase() == Phase::Exited,
        "ExitCode": record.exit().map_or(0, |exit| exit.code),
        "StartedAt": seconds(record.times.started),
        "ExitedAt": seconds(record.times.finished),
        "AutoRemove": record.spec.remove,
        "Size": entry.size.as_ref().map(ToString::to_string).unwrap_or_default(),
        // mimeo has no pods.
        "Pod": "",
        "PodName": "",
    })
}
