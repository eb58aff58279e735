//! Measures the figures of `docs/decisions/0002-image-filesystem.md`: the time to build a filesystem from a tar file,
//! and to create an empty disk.
//!
//! `cargo run --release -p mimeo-image --example measure -- ROOT.tar`
#![expect(clippy::print_stdout, reason = "the program's purpose is its output")]

use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mimeo_image::{Event, ImportOptions, Progress, Stage, Store, blank};

const RUNS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let tar = std::env::args().nth(1).ok_or("usage: measure ROOT.tar")?;
    let folder = tempfile::tempdir_in(".")?;
    measure_import(folder.path(), Path::new(&tar))?;
    for gib in [1, 10, 100] {
        measure_blank(folder.path(), gib)?;
        measure_template(folder.path(), gib)?;
    }
    Ok(())
}

/// Start times of the stages of an import.
#[derive(Default)]
struct Marks(Mutex<[Option<Instant>; 3]>);

impl Progress for Marks {
    fn event(&self, event: Event) {
        let mut marks = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match event {
            Event::Layer { stage: Stage::Unpacking, .. } => marks[0] = Some(Instant::now()),
            Event::Writing { .. } => {
                marks[1].get_or_insert_with(Instant::now);
                marks[2] = Some(Instant::now());
            }
            _ => {}
        }
    }
}

fn measure_import(folder: &Path, tar: &Path) -> Result<(), Box<dyn Error>> {
    let store = Store::open(&folder.join("images"))?;
    let (mut read, mut write, mut sync) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let marks = Arc::new(Marks::default());
        let made = store.import(File::open(tar)?, tar, &ImportOptions::default(), marks.clone())?;
        let end = Instant::now();
        let marks = *marks.0.lock().map_err(|_| "a thread has failed")?;
        let [Some(unpacking), Some(writing), Some(written)] = marks else { return Err("no events".into()) };
        read.push(writing - unpacking);
        write.push(written - writing);
        sync.push(end - written);
        println!("filesystem of {} bytes, {} on disk", fs::metadata(&made.rootfs)?.len(), made.size);
        fs::remove_file(made.rootfs)?;
    }
    report("layer read, verified, spooled, merged, laid out", &mut read);
    report("filesystem written", &mut write);
    report("synced, renamed, recorded", &mut sync);
    Ok(())
}

fn measure_template(folder: &Path, gib: u64) -> Result<(), Box<dyn Error>> {
    let path = folder.join("disk");
    let mut times = Vec::new();
    for _ in 0..50 {
        let start = Instant::now();
        blank::create_from_template(&folder.join("templates"), &path, gib << 30)?;
        times.push(start.elapsed());
        fs::remove_file(&path)?;
    }
    report(&format!("blank disk of {gib} GiB from a template"), &mut times);
    Ok(())
}

fn measure_blank(folder: &Path, gib: u64) -> Result<(), Box<dyn Error>> {
    let path = folder.join("blank");
    let mut times = Vec::new();
    let mut blocks = 0;
    for run in 0..50u8 {
        let start = Instant::now();
        blank::create(&path, gib << 30, [run; 16])?;
        times.push(start.elapsed());
        blocks = fs::metadata(&path)?.blocks();
        fs::remove_file(&path)?;
    }
    report(&format!("blank disk of {gib} GiB, {} KiB on disk", blocks / 2), &mut times);
    Ok(())
}

fn report(label: &str, times: &mut [Duration]) {
    times.sort();
    println!(
        "{label}: median {:.2?}, min {:.2?}, max {:.2?}",
        times[times.len() / 2],
        times[0],
        times[times.len() - 1]
    );
}
