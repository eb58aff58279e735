//! Measures captures: `cargo run --release -p mimeo-pager --example measure -- [DIRECTORY]`.
//!
//! The memory belongs to another process, a second instance of this program.
#![allow(unsafe_code, reason = "the other process maps a file privately")]
#![allow(clippy::print_stdout, reason = "the program prints its results")]

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mimeo_pager::{Capture, MappingKind, PAGE, Pages, Region, changed_pages, digest, flatten};
use rustix::mm::{MapFlags, ProtFlags};

const MIB: u64 = 1 << 20;
const RUNS: usize = 7;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> Outcome {
    let arguments: Vec<_> = std::env::args().collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    match words[1..] {
        ["child", kind, file, length, touched, run] => {
            other_process(kind, Path::new(file), length.parse()?, touched.parse()?, run.parse()?)
        }
        [] => measure(&std::env::temp_dir()),
        [folder] => measure(Path::new(folder)),
        _ => Err("usage: measure [DIRECTORY]".into()),
    }
}

fn measure(folder: &Path) -> Outcome {
    let folder = tempfile::tempdir_in(folder)?;
    let at = |name: &str| folder.path().join(name);
    println!("minimum, median and maximum of {RUNS} runs, in milliseconds");
    for (kind, mapping_kind) in [("private", MappingKind::Private), ("memfd", MappingKind::Shared)] {
        for mebibytes in [256, 1024, 4096] {
            let other = Other::start(kind, &at("parent"), mebibytes * MIB, 20 * MIB, 32)?;
            let name = format!("changed_pages(), {kind}, 20 of {mebibytes} MiB, runs of 32 pages");
            measure_time(&name, || Ok(changed_pages(other.pid(), &[other.region], mapping_kind).map(drop)?))?;
        }
        for run in [1, 8, 256] {
            let other = Other::start(kind, &at("parent"), 1024 * MIB, 100 * MIB, run)?;
            let name = format!("{kind}, 100 of 1024 MiB, runs of {run} pages");
            measure_capture(&name, &other, mapping_kind, &at("diff"))?;
        }
    }
    measure_flatten(&at("parent"), &at("diff"), &at("flat"))
}

fn measure_capture(name: &str, other: &Other, mapping_kind: MappingKind, diff: &Path) -> Outcome {
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..RUNS {
        let start = Instant::now();
        let mut capture = Capture::prepare(other.pid(), vec![other.region], mapping_kind, diff)?;
        let prepared = Instant::now();
        let pages = capture.copy_changed()?;
        let taken = Instant::now();
        capture.finish(false, false)?;
        let finished = Instant::now();
        digest(diff, Some(&pages))?;
        let laps = [start, prepared, taken, finished, Instant::now()];
        times.iter_mut().zip(laps.windows(2)).for_each(|(times, lap)| times.push(lap[1] - lap[0]));
        fs::remove_file(diff)?;
    }
    for (part, times) in ["prepare()", "copy_changed()", "finish()", "digest()"].into_iter().zip(times) {
        print_times(&format!("{part}, {name}"), times);
    }
    Ok(())
}

/// A parent with 100 MiB of data in 1 GiB, and a diff of 20 MiB.
fn measure_flatten(parent: &Path, diff: &Path, target: &Path) -> Outcome {
    let every = |stride: u64, run: u64, bytes: u64| -> Pages {
        (0..bytes / (run * PAGE)).map(|number| number * stride..number * stride + run).collect()
    };
    let pages = every(128, 32, 20 * MIB);
    fill(parent, 1024 * MIB, &every(512, 256, 100 * MIB))?;
    fill(diff, 1024 * MIB, &pages)?;
    measure_time("flatten(), 20 MiB over 100 MiB", || {
        // Replacing a file costs more: ext4 then writes the new one out. The first run finds none.
        fs::remove_file(target).ok();
        Ok(flatten(parent, diff, &pages, target)?)
    })?;
    measure_time("digest() of it", || Ok(digest(target, None).map(drop)?))
}

fn fill(path: &Path, length: u64, pages: &Pages) -> Outcome {
    use std::os::unix::fs::FileExt;
    let file = File::create(path)?;
    file.set_len(length)?;
    for run in pages.runs() {
        file.write_all_at(&vec![7; ((run.end - run.start) * PAGE) as usize], run.start * PAGE)?;
    }
    Ok(())
}

fn measure_time(name: &str, act: impl Fn() -> Outcome) -> Outcome {
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        act()?;
        times.push(start.elapsed());
    }
    print_times(name, times);
    Ok(())
}

fn print_times(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let [min, median, max] = [0, RUNS / 2, RUNS - 1].map(|which| times[which].as_secs_f64() * 1e3);
    println!("{name:58} {min:9.2} {median:9.2} {max:9.2}");
}

struct Other {
    process: Child,
    region: Region,
}

impl Other {
    fn start(kind: &str, file: &Path, length: u64, touched: u64, run: u64) -> Outcome<Self> {
        File::create(file)?.set_len(length)?;
        let mut process = Command::new(std::env::current_exe()?)
            .args(["child", kind])
            .arg(file)
            .args([length, touched, run].map(|number| number.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let output = process.stdout.take().ok_or("no output")?;
        BufReader::new(output).read_line(&mut line)?;
        Ok(Self { process, region: Region { address: line.trim().parse()?, offset: 0, length } })
    }

    fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may have exited already.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Writes to runs of pages across the memory, prints its address, and waits.
fn other_process(kind: &str, path: &Path, length: u64, touched: u64, run: u64) -> Outcome {
    let (file, flags) = match kind {
        "private" => (OpenOptions::new().read(true).open(path)?, MapFlags::PRIVATE),
        _ => {
            let file = rustix::fs::memfd_create("ram", rustix::fs::MemfdFlags::CLOEXEC)?;
            rustix::fs::ftruncate(&file, length)?;
            (file.into(), MapFlags::SHARED)
        }
    };
    let rights = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice, which stays until the process ends.
    let memory = unsafe {
        let start = rustix::mm::mmap(std::ptr::null_mut(), length as usize, rights, flags, &file, 0)?;
        std::slice::from_raw_parts_mut(start.cast::<u8>(), length as usize)
    };
    let (run, runs) = ((run * PAGE) as usize, touched / (run * PAGE));
    let stride = (length / runs / PAGE * PAGE) as usize;
    memory.chunks_mut(stride).take(runs as usize).for_each(|chunk| chunk[..run].fill(9));
    let mut output = std::io::stdout();
    writeln!(output, "{}", memory.as_ptr() as u64)?;
    output.flush()?;
    std::io::stdin().lines().for_each(drop);
    Ok(())
}
