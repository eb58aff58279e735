//! `mimeo system df`: the disk space that images, machines, volumes and snapshots use.

mod verbose;

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mimeo_engine::snapshot::Kind;
use mimeo_engine::{Engine, Found};
use serde_json::{Value, json};

use crate::commands::image::ImageUsers;
use crate::commands::volume::VolumeUsers;
use crate::error::CliError;
use crate::template::Format;
use crate::{humanize, output};

/// Arguments of `mimeo system df`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `json`, or a template of Go's text/template with {{.Type}}, {{.Total}}, {{.Active}}, {{.Size}} and
    /// {{.Reclaimable}}
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Print each image, machine, volume and snapshot
    #[arg(short, long, conflicts_with_all = ["format", "json"])]
    verbose: bool,
}

/// The use of one kind of things.
#[derive(Debug, Default)]
struct Usage {
    kind: &'static str,
    total: usize,
    active: usize,
    bytes: u64,
    reclaimable: u64,
}

/// Prints a line for each kind.
pub(crate) fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    if args.verbose {
        return verbose::print(engine).map(|()| 0);
    }
    let machines = engine.registry().list()?;
    let usages = [images(engine)?, of_machines(&machines), volumes(engine)?, snapshots(engine, &machines)?];
    match Format::from_arguments(args.format.as_deref(), args.json) {
        Some(Format::Json) => output::json(&usages.iter().map(Usage::numbers).collect::<Vec<_>>())?,
        Some(Format::Text(text)) => text.print(&usages.iter().map(Usage::texts).collect::<Vec<_>>(), &[])?,
        None => {
            let rows: Vec<_> = usages.iter().map(Usage::cells).collect();
            output::table(&["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"], &rows)?;
        }
    }
    Ok(0)
}

impl Usage {
    fn add(&mut self, active: bool, bytes: u64) {
        self.total += 1;
        self.bytes += bytes;
        match active {
            true => self.active += 1,
            false => self.reclaimable += bytes,
        }
    }

    fn reclaimable_text(&self) -> String {
        let percent = (self.reclaimable * 100).checked_div(self.bytes).unwrap_or_default();
        format!("{} ({percent}%)", humanize::size(self.reclaimable, 4))
    }

    fn cells(&self) -> Vec<String> {
        let numbers = [self.total.to_string(), self.active.to_string()];
        let sizes = [humanize::size(self.bytes, 4), self.reclaimable_text()];
        std::iter::once(self.kind.to_owned()).chain(numbers).chain(sizes).collect()
    }

    fn texts(&self) -> Value {
        json!({"Type": self.kind, "Total": self.total, "Active": self.active,
               "Size": humanize::size(self.bytes, 4), "Reclaimable": self.reclaimable_text()})
    }

    fn numbers(&self) -> Value {
        json!({"Type": self.kind, "Total": self.total, "Active": self.active, "Size": self.bytes,
               "Reclaimable": self.reclaimable})
    }
}

fn images(engine: &Engine) -> Result<Usage, CliError> {
    let users = ImageUsers::load(engine)?;
    let mut usage = Usage { kind: "Images", ..Usage::default() };
    for image in engine.images()?.list()?.images {
        usage.add(users.describe(&image).is_some(), image.size);
    }
    Ok(usage)
}

fn of_machines(machines: &[Found]) -> Usage {
    let mut usage = Usage { kind: "Machines", ..Usage::default() };
    for found in machines {
        usage.add(found.record.phase().is_live(), directory_bytes(&found.dir));
    }
    usage
}

/// A volume is in use while a machine refers to it, as podman counts.
fn volumes(engine: &Engine) -> Result<Usage, CliError> {
    let users = VolumeUsers::load(engine)?;
    let mut usage = Usage { kind: "Local Volumes", ..Usage::default() };
    for volume in engine.volumes().list()? {
        usage.add(users.count(&volume.name) > 0, engine.volumes().disk_usage(&volume.name));
    }
    Ok(usage)
}

/// Boot snapshots are always in use: without them, machines start more slowly.
fn snapshots(engine: &Engine, machines: &[Found]) -> Result<Usage, CliError> {
    let mut usage = Usage { kind: "Snapshots", ..Usage::default() };
    for snapshot in engine.snapshots().list()? {
        let id = Some(&snapshot.manifest.id);
        let cloned = machines.iter().any(|found| found.record.origin.as_ref() == id);
        let active = cloned || snapshot.manifest.kind == Kind::Runtime;
        usage.add(active, directory_bytes(&snapshot.dir));
    }
    Ok(usage)
}

/// The space of a directory's files, and of those in its directories: disks of volumes. A file that disappears meanwhile
/// uses none.
fn directory_bytes(directory: &Path) -> u64 {
    let entries = directory.read_dir().into_iter().flatten().flatten();
    let bytes = entries.filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        let below = if metadata.is_dir() { directory_bytes(&entry.path()) } else { 0 };
        Some(metadata.blocks() * 512 + below)
    });
    bytes.sum()
}
