//! The host's time stamp counter frequency. Emulated guests read the host's
//! counter, and one that is told its frequency need not measure it, which can
//! hang it when the host is busy.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::cache::boot_id;
use super::fence::time_stamp;

/// Long enough for an error below 100 parts in a million.
const MEASURED: Duration = Duration::from_millis(20);
/// The kernel's figure is taken when it is this near to the measured one, in
/// parts in a million: it is exact, but where the frequency scales it is
/// another clock's.
const AGREEMENT: u64 = 1000;

/// The frequency in kHz; none where the counter is no clock (it stops or
/// changes with the CPU's frequency). Takes 20 ms; see [`kept_tsc_khz`].
pub fn tsc_khz() -> Option<u32> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").ok()?;
    if !is_a_clock(&cpuinfo) {
        return None;
    }
    let measured = measure()?;
    let told = told(&cpuinfo).filter(|told| told.abs_diff(measured) * 1_000_000 / measured < AGREEMENT);
    u32::try_from(told.unwrap_or(measured)).ok()
}

/// The same, kept in `run_dir` (`MIMEO_RUN`) until the next boot. Where it
/// cannot be kept it is measured each time.
pub fn kept_tsc_khz(run_dir: &Path) -> Option<u32> {
    let path = run_dir.join("tsc-khz");
    let boot_id = boot_id().ok()?;
    if let Some(khz) = fs::read_to_string(&path).ok().and_then(|text| kept(&text, &boot_id)) {
        return Some(khz);
    }
    let khz = tsc_khz()?;
    if let Err(error) = super::cache::replace(&path, format!("{boot_id} {khz}\n").as_bytes()) {
        tracing::debug!(path = %path.display(), %error, "the counter's frequency is not kept");
    }
    Some(khz)
}

fn kept(text: &str, boot_id: &str) -> Option<u32> {
    text.trim_end().strip_prefix(boot_id)?.trim_start().parse().ok()
}

fn is_a_clock(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    flags.split_whitespace().any(|flag| flag == "constant_tsc")
}

/// `cpu MHz : 2596.150`.
fn told(cpuinfo: &str) -> Option<u64> {
    let line = cpuinfo.lines().find(|line| line.starts_with("cpu MHz"))?;
    let (whole, part) = line.split(':').nth(1)?.trim().split_once('.')?;
    Some(whole.parse::<u64>().ok()? * 1000 + part.parse::<u64>().ok().filter(|_| part.len() == 3)?)
}

fn measure() -> Option<u64> {
    let (start, first) = (Instant::now(), time_stamp());
    sleep(MEASURED);
    let (took, last) = (start.elapsed(), time_stamp());
    let ticks = last.checked_sub(first)?;
    u64::try_from(u128::from(ticks) * 1_000_000 / took.as_nanos()).ok().filter(|khz| *khz > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_told_frequency_is_read_to_the_khz() {
        assert_eq!(told("model name\t: x\ncpu MHz\t\t: 2596.150\n"), Some(2_596_150));
        assert_eq!(told("cpu MHz : unknown"), None);
    }

    #[test]
    fn a_kept_frequency_is_of_this_boot() {
        let dir = tempfile::tempdir().unwrap();
        let first = kept_tsc_khz(dir.path());
        assert_eq!(kept_tsc_khz(dir.path()), first);
        assert_eq!(kept("boot-a 2596150\n", "boot-a"), Some(2_596_150));
        assert_eq!(kept("boot-b 2596150\n", "boot-a"), None);
        assert_eq!(kept("", "boot-a"), None);
    }

    #[test]
    fn a_counter_that_is_no_clock_is_not_believed() {
        assert!(is_a_clock("flags\t: fpu tsc constant_tsc\n"));
        assert!(!is_a_clock("flags\t: fpu tsc\n"));
    }

    #[test]
    fn the_measured_frequency_is_a_cpus() {
        let khz = measure().unwrap();
        assert!((100_000..10_000_000).contains(&khz), "{khz}");
    }
}
