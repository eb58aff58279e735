//! A clone: another process, this program once more, that plays Firecracker's part.

use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use mimeo_pager::{PAGE, fake};

use super::faults::PAGES;

/// What a clone is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Guest {
    /// The socket of who serves its memory
    #[arg(long, conflicts_with = "file")]
    socket: Option<PathBuf>,
    /// The file that it maps instead
    #[arg(long)]
    file: Option<PathBuf>,
    /// Begins the order of its pages
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// A prime, so that each page has its turn.
const STRIDE: u64 = 7919;

/// Touches all its memory when it is told to, says how long that took, and stays until it is told no more.
pub(crate) fn play(told: &Guest) -> Result<()> {
    let (guest, stream) = match (&told.socket, &told.file) {
        (Some(socket), _) => {
            let guest = fake::Guest::new(&[PAGES * PAGE], PAGE, fake::FEATURES)?;
            let stream = guest.hand_over(socket)?;
            (guest, Some(stream))
        }
        (None, file) => (fake::Guest::from_file(file.as_deref().unwrap_or(Path::new("memory")))?, None),
    };
    say("ready")?;
    wait()?;
    say(&touch(&guest, told.seed))?;
    wait()?;
    drop(stream);
    Ok(())
}

/// The median, what 99 of 100 do not exceed, and the mean, in microseconds.
fn touch(guest: &fake::Guest, seed: u64) -> String {
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

fn say(word: &str) -> Result<()> {
    let mut output = std::io::stdout();
    writeln!(output, "{word}")?;
    Ok(output.flush()?)
}

fn wait() -> Result<()> {
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}
