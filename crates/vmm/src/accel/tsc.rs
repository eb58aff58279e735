//! The frequency of the host's time stamp counter. Guests under TCG read the host's counter. A guest that is
//! given its frequency need not measure it; measuring can hang a guest when the host is busy.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::cache::boot_id;
use super::fence::time_stamp;

/// Long enough for an error below 100 ppm.
const MEASURE_TIME: Duration = Duration::from_millis(20);
/// The kernel's figure is used if it is this close to the measured one, in ppm. It is exact, but with
/// frequency scaling it is that of another clock.
const MAX_DIFFERENCE_PPM: u64 = 1000;

/// The frequency in kHz. None where the counter has no constant rate. Takes 20 ms; see [`recorded_tsc_khz`].
pub fn tsc_khz() -> Option<u32> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").ok()?;
    if !is_constant(&cpuinfo) {
        return None;
    }
    let measured = measure()?;
    let reported = kernel_khz(&cpuinfo)
        .filter(|reported| reported.abs_diff(measured) * 1_000_000 / measured < MAX_DIFFERENCE_PPM);
    u32::try_from(reported.unwrap_or(measured)).ok()
}

/// The same, recorded in `run_dir` (`MIMEO_RUN`) until the host reboots. If it cannot be recorded, it is
/// measured each time.
pub fn recorded_tsc_khz(run_dir: &Path) -> Option<u32> {
    let path = run_dir.join("tsc-khz");
    let boot_id = boot_id().ok()?;
    if let Some(khz) = fs::read_to_string(&path).ok().and_then(|text| parse_recorded(&text, &boot_id)) {
        return Some(khz);
    }
    let khz = tsc_khz()?;
    if let Err(error) = super::cache::replace_file(&path, format!("{boot_id} {khz}\n").as_bytes()) {
        tracing::debug!(path = %path.display(), %error, "cannot record the TSC frequency");
    }
    Some(khz)
}

fn parse_recorded(text: &str, boot_id: &str) -> Option<u32> {
    text.trim_end().strip_prefix(boot_id)?.trim_start().parse().ok()
}

fn is_constant(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    flags.split_whitespace().any(|flag| flag == "constant_tsc")
}

/// Parses `cpu MHz : 2596.150`.
fn kernel_khz(cpuinfo: &str) -> Option<u64> {
    let line = cpuinfo.lines().find(|line| line.starts_with("cpu MHz"))?;
    let (mhz, fraction) = line.split(':').nth(1)?.trim().split_once('.')?;
    Some(mhz.parse::<u64>().ok()? * 1000 + fraction.parse::<u64>().ok().filter(|_| fraction.len() == 3)?)
}

fn measure() -> Option<u64> {
    let (start, first) = (Instant::now(), time_stamp());
    sleep(MEASURE_TIME);
    let (elapsed, last) = (start.elapsed(), time_stamp());
    let ticks = last.checked_sub(first)?;
    u64::try_from(u128::from(ticks) * 1_000_000 / elapsed.as_nanos()).ok().filter(|khz| *khz > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_frequency_is_parsed_to_the_khz() {
        assert_eq!(kernel_khz("model name\t: x\ncpu MHz\t\t: 2596.150\n"), Some(2_596_150));
        assert_eq!(kernel_khz("cpu MHz : unknown"), None);
    }

    #[test]
    fn a_recorded_frequency_is_valid_for_one_boot() {
        let dir = tempfile::tempdir().unwrap();
        let first = recorded_tsc_khz(dir.path());
        assert_eq!(recorded_tsc_khz(dir.path()), first);
        assert_eq!(parse_recorded("boot-a 2596150\n", "boot-a"), Some(2_596_150));
        assert_eq!(parse_recorded("boot-b 2596150\n", "boot-a"), None);
        assert_eq!(parse_recorded("", "boot-a"), None);
    }

    #[test]
    fn a_counter_without_a_constant_rate_is_rejected() {
        assert!(is_constant("flags\t: fpu tsc constant_tsc\n"));
        assert!(!is_constant("flags\t: fpu tsc\n"));
    }

    #[test]
    fn the_measured_frequency_is_plausible() {
        let khz = measure().unwrap();
        assert!((100_000..10_000_000).contains(&khz), "{khz}");
    }
}
