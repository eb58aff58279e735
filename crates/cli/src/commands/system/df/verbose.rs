//! `mimeo system df --verbose`: what each image, machine, volume and snapshot uses, in podman's tables.

use jiff::Timestamp;
use mimeo_engine::Engine;
use mimeo_engine::machine::{Found, Record};

use super::directory_bytes;
use crate::commands::volume::VolumeUsers;
use crate::error::CliError;
use crate::view::{self, ImageNames};
use crate::{humanize, mounts, output};

/// podman's placeholder for a missing name.
const NONE: &str = "<none>";

/// Prints a table for each kind.
pub(super) fn print(engine: &Engine) -> Result<(), CliError> {
    let now = Timestamp::now();
    images(engine, now)?;
    machines(engine, now)?;
    volumes(engine)?;
    snapshots(engine, now)
}

fn table(kind: &str, headings: &[&str], rows: &[Vec<String>]) -> Result<(), CliError> {
    output::line(format!("{kind} space usage:\n"))?;
    output::table(headings, rows)?;
    output::line("")
}

fn images(engine: &Engine, now: Timestamp) -> Result<(), CliError> {
    let machines: Vec<_> = engine.registry().list()?.into_iter().map(|found| found.record).collect();
    let uses = |record: &Record, id: &str| record.image.as_ref().is_some_and(|image| image.id == id);
    let row = |image: mimeo_image::Image| {
        let id = image.id.to_string();
        vec![
            image.names.first().map_or_else(|| NONE.to_owned(), Clone::clone),
            image.short_id(),
            image.created.map(|created| humanize::duration(now.duration_since(created))).unwrap_or_default(),
            humanize::size(image.size, 4),
            machines.iter().filter(|record| uses(record, &id)).count().to_string(),
        ]
    };
    let rows: Vec<_> = engine.images()?.list()?.images.into_iter().map(row).collect();
    table("Images", &["NAME", "IMAGE ID", "CREATED", "SIZE", "MACHINES"], &rows)
}

fn machines(engine: &Engine, now: Timestamp) -> Result<(), CliError> {
    let names = ImageNames::from_images(engine.images()?.list()?.images);
    let row = |found: Found| {
        let record = &found.record;
        vec![
            record.id.short().to_owned(),
            names.name_for(record),
            humanize::command(&record.process.args, false),
            volumes_of(record, &names).to_string(),
            humanize::size(directory_bytes(&found.dir), 4),
            humanize::duration(now.duration_since(record.times.created)),
            view::state(record.phase()).to_owned(),
            record.name.to_string(),
        ]
    };
    let rows: Vec<_> = engine.registry().list()?.into_iter().map(row).collect();
    let headings =
        ["CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES"];
    table("Machines", &headings, &rows)
}

/// The number of the machine's mounts that are volumes: named, anonymous or declared by the image.
fn volumes_of(record: &Record, names: &ImageNames) -> usize {
    mounts::targets(record, names).len() - record.spec.volumes.len()
}

fn volumes(engine: &Engine) -> Result<(), CliError> {
    let users = VolumeUsers::load(engine)?;
    let volumes = engine.volumes();
    let row = |volume: mimeo_engine::volumes::Volume| {
        let size = humanize::size(volumes.disk_usage(&volume.name), 4);
        vec![volume.name.to_string(), users.count(&volume.name).to_string(), size]
    };
    let rows: Vec<_> = volumes.list()?.into_iter().map(row).collect();
    table("Local Volumes", &["VOLUME NAME", "LINKS", "SIZE"], &rows)
}

fn snapshots(engine: &Engine, now: Timestamp) -> Result<(), CliError> {
    let rows: Vec<_> = engine
        .snapshots()
        .list()?
        .into_iter()
        .map(|snapshot| {
            let manifest = &snapshot.manifest;
            vec![
                manifest.display_name().to_owned(),
                manifest.machine.as_ref().map(|machine| machine.name.to_string()).unwrap_or_default(),
                humanize::duration(now.duration_since(manifest.created)),
                humanize::size(directory_bytes(&snapshot.dir), 4),
            ]
        })
        .collect();
    table("Snapshots", &["SNAPSHOT", "MACHINE", "CREATED", "SIZE"], &rows)
}
