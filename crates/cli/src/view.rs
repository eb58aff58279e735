//! A machine's state, status, ports and image as podman shows them.

use std::collections::HashMap;

use jiff::Timestamp;
use mimeo_engine::Exit;
use mimeo_engine::machine::{ImageVolumes, NetworkRecord, Phase, Record, image_volumes};
use mimeo_image::{Image, ImageName};
use mimeo_net::PortMapping;

use crate::backend::Host;
use crate::error::CliError;
use crate::humanize;

/// podman's name of a machine's state.
pub(crate) fn state(phase: Phase) -> &'static str {
    match phase {
        Phase::Created | Phase::Creating => "created",
        Phase::Running => "running",
        Phase::Paused | Phase::DiskError => "paused",
        Phase::Stopping => "stopping",
        Phase::Restarting => "restarting",
        Phase::Exited => "exited",
    }
}

/// `Up 5 seconds (healthy)`, `Exited (0) 3 minutes ago`, `Paused`, `Paused (its disk cannot be written: …)`,
/// `Created`.
pub(crate) fn status(record: &Record, now: Timestamp) -> String {
    match record.phase() {
        Phase::Created | Phase::Creating => "Created".to_owned(),
        Phase::Paused => "Paused".to_owned(),
        Phase::DiskError => format!("Paused ({})", record.disk_error.as_deref().unwrap_or_default()),
        Phase::Stopping => "Stopping".to_owned(),
        Phase::Restarting => restarting(record, now),
        Phase::Running => up(record, now),
        Phase::Exited => exited(record.exit(), record.times.finished.unwrap_or(now), now),
    }
}

fn up(record: &Record, now: Timestamp) -> String {
    let since = record.times.started.unwrap_or(now);
    let health = record.health.as_ref().map(|health| format!(" ({})", health.status)).unwrap_or_default();
    format!("Up {}{health}", humanize::duration(now.duration_since(since)))
}

/// `Restarting (1) 3 seconds ago`, as Docker shows it.
fn restarting(record: &Record, now: Timestamp) -> String {
    let code = record.last_exit().map_or(0, |exit| exit.code);
    format!("Restarting ({code}) {}", humanize::ago(record.times.finished.unwrap_or(now), now))
}

fn exited(exit: Option<&Exit>, finished: Timestamp, now: Timestamp) -> String {
    let code = exit.map_or(0, |exit| exit.code);
    format!("Exited ({code}) {}", humanize::ago(finished, now))
}

/// `0.0.0.0:8080->80/tcp, 127.0.0.1:53->53/udp`.
pub(crate) fn ports(record: &Record) -> String {
    published(record).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The machine's published ports.
pub(crate) fn published(record: &Record) -> &[PortMapping] {
    record.network.as_ref().map_or(&[], |network| &network.ports)
}

/// The kind of a machine's network.
pub(crate) fn network_mode(network: &NetworkRecord) -> &'static str {
    if network.outer.is_some() { "bridged" } else { "rootless" }
}

/// What lists of machines show of images, by image id.
#[derive(Debug, Default)]
pub(crate) struct ImageNames(HashMap<String, Listed>);

/// What is shown of one image.
#[derive(Debug)]
struct Listed {
    names: Vec<String>,
    size: u64,
    /// The paths that it declares as volumes.
    volumes: Vec<String>,
}

impl ImageNames {
    /// Loads the names of all local images.
    pub(crate) async fn load(host: &Host) -> Result<Self, CliError> {
        Ok(Self::from_images(host.images().await?.images))
    }

    /// The names of these images.
    pub(crate) fn from_images(images: Vec<Image>) -> Self {
        let listed = images.into_iter().map(|image| {
            let id = image.id.to_string();
            (id, Listed { names: image.names, size: image.size, volumes: image.config.volumes })
        });
        Self(listed.collect())
    }

    /// The full name of the image that a machine runs, or the requested name if the image has none.
    pub(crate) fn name_for(&self, record: &Record) -> String {
        let requested = &record.spec.image;
        let names = self.listed(record).map(|listed| &listed.names);
        let full = requested.parse::<ImageName>().map(|name| name.to_string()).unwrap_or_default();
        match names {
            Some(names) if names.contains(&full) => full,
            Some(names) => names.first().unwrap_or(requested).clone(),
            None => requested.clone(),
        }
    }

    /// The size of the image that a machine runs; 0 if it was removed.
    pub(crate) fn size_of(&self, record: &Record) -> u64 {
        self.listed(record).map_or(0, |listed| listed.size)
    }

    /// Where a machine has anonymous volumes because its image declares them; nowhere if the image was removed.
    pub(crate) fn declared_volumes(&self, record: &Record) -> Vec<String> {
        let listed = self.listed(record).filter(|_| record.spec.image_volumes == ImageVolumes::Anonymous);
        listed.map(|listed| image_volumes(&record.spec, &listed.volumes).collect()).unwrap_or_default()
    }

    fn listed(&self, record: &Record) -> Option<&Listed> {
        record.image.as_ref().and_then(|image| self.0.get(&image.id))
    }
}

/// A time as Go prints it, in podman's `--format`.
pub(crate) fn go_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S.%9f +0000 UTC").to_string()
}

/// An image's id without the `sha256:` prefix, as podman shows it.
pub(crate) fn bare_id(id: &str) -> &str {
    id.strip_prefix("sha256:").unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use mimeo_engine::machine::{Health, HealthStatus};
    use mimeo_engine::{MachineId, MachineSpec, State};

    use super::*;

    fn record(state: State, now: Timestamp) -> Record {
        let name = "web".parse().expect("a name");
        let mut record = Record::new(MachineId::random(), name, MachineSpec::new("busybox"));
        record.times.started = Some(now - 5.seconds());
        record.times.finished = Some(now - 3.minutes());
        record.state = state;
        record
    }

    #[test]
    fn status_reads_as_podmans() {
        let now = Timestamp::now();
        let text = |state| status(&record(state, now), now);
        assert_eq!(text(State::Running), "Up 5 seconds");
        assert_eq!(text(State::Creating), "Created");
        assert_eq!(text(State::Paused), "Paused");
        let mut full = record(State::Paused, now);
        full.disk_error = Some("its disk cannot be written: No space left on device".to_owned());
        assert_eq!(status(&full, now), "Paused (its disk cannot be written: No space left on device)");
        let exit = Exit { code: 3, out_of_memory: false, error: None };
        assert_eq!(text(State::Exited(exit)), "Exited (3) 3 minutes ago");
        let mut healthy = record(State::Running, now);
        healthy.health =
            Some(Health { status: HealthStatus::Healthy, failing_streak: 0, last_failure: None });
        assert_eq!(status(&healthy, now), "Up 5 seconds (healthy)");
    }
}
