//! The figures of `docs/decisions/0002-image-filesystem.md`: how long a tar file takes to become a filesystem, and
//! an empty disk to be made.
//!
//! `cargo run --release -p mimeo-image --example measure -- ROOT.tar`
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mimeo_image::{ImportOptions, Quiet, Store, blank};

const RUNS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let tar = std::env::args().nth(1).ok_or("usage: measure ROOT.tar")?;
    let folder = tempfile::tempdir_in(".")?;
    measure_import(folder.path(), Path::new(&tar))?;
    for gib in [1, 10, 100] {
        measure_blank(folder.path(), gib)?;
    }
    Ok(())
}

fn measure_import(folder: &Path, tar: &Path) -> Result<(), Box<dyn Error>> {
    let store = Store::open(&folder.join("images"))?;
    let mut times = Vec::new();
    let mut image = None;
    for _ in 0..RUNS {
        if let Some(path) = image.take() {
            fs::remove_file(path)?;
        }
        let start = Instant::now();
        let made = store.import(File::open(tar)?, tar, &ImportOptions::default(), Arc::new(Quiet))?;
        times.push(start.elapsed());
        println!("  {} bytes, {} on disk", fs::metadata(&made.rootfs)?.len(), made.size);
        image = Some(made.rootfs);
    }
    report("import, blob stored by the first run", &mut times);
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

fn report(what: &str, times: &mut [Duration]) {
    times.sort();
    println!(
        "{what}: median {:.2?}, least {:.2?}, most {:.2?}",
        times[times.len() / 2],
        times[0],
        times[times.len() - 1]
    );
}
