//! A clone: a second process of this program that acts as Firecracker.

use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use mimeo_pager::{PAGE, fake};

use super::faults::PAGES;

/// Options of a clone process.
#[derive(Debug, clap::Args)]
pub(crate) struct CloneOptions {
    /// The socket of the fault handler
    #[arg(long, conflicts_with = "file")]
    socket: Option<PathBuf>,
    /// The memory file to map instead
    #[arg(long)]
    file: Option<PathBuf>,
    /// The first page of the access order
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// A prime, so that the steps visit each page once.
const STRIDE: u64 = 7919;

/// Waits for a line, touches all memory, prints the times, and stays until it reads another line or the end of input.
pub(crate) fn run_clone(options: &CloneOptions) -> Result<()> {
    let (guest, stream) = match (&options.socket, &options.file) {
        (Some(socket), _) => {
            let guest = fake::Guest::new(&[PAGES * PAGE], PAGE, fake::FEATURES)?;
            let stream = guest.hand_over(socket)?;
            (guest, Some(stream))
        }
        (None, file) => (fake::Guest::from_file(file.as_deref().unwrap_or(Path::new("memory")))?, None),
    };
    print_line("ready")?;
    wait_for_line()?;
    print_line(&touch_all(&guest, options.seed))?;
    wait_for_line()?;
    drop(stream);
    Ok(())
}

/// Touches all pages; returns the median, the 99th percentile and the mean in microseconds.
fn touch_all(guest: &fake::Guest, seed: u64) -> String {
    let mut times = Vec::with_capacity(PAGES as usize);
    let begun = Instant::now();
    for step in 0..PAGES {
        let page = (step * STRIDE + seed) % PAGES;
        let begun = Instant::now();
        black_box(guest.touch(page));
        times.push(begun.elapsed());
    }
    let mean = begun.elapsed().as_secs_f64() * 1e6 / PAGES as f64;
    times.sort();
    let [p50, p99] = [50, 99].map(|percent| times[(PAGES * percent / 100) as usize].as_secs_f64() * 1e6);
    format!("{p50} {p99} {mean}")
}

fn print_line(line: &str) -> Result<()> {
    let mut output = std::io::stdout();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}

fn wait_for_line() -> Result<()> {
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}
