//! Parses the kernel's text files into numbers. All functions are pure.

use mimeo_agent_protocol::message::{Cpu, Load, Memory, NetworkCounters};

/// Clock ticks per second in the kernel's files, on all supported architectures.
pub(crate) const USER_HZ: u64 = 100;
/// Microseconds in a tick.
pub(crate) const TICK_MICROS: u64 = 1_000_000 / USER_HZ;
/// Bytes in a sector of /proc/diskstats, for any sector size of the disk.
const SECTOR: u64 = 512;

/// Whether a process handles, ignores or blocks a signal, by its /proc/PID/status.
pub(crate) fn handles_signal(status: &str, signal: i32) -> bool {
    is_in(status, &["SigCgt", "SigIgn", "SigBlk"], signal)
}

/// Whether a signal is pending for a process, by its /proc/PID/status.
pub(crate) fn is_pending(status: &str, signal: i32) -> bool {
    is_in(status, &["SigPnd", "ShdPnd"], signal)
}

fn is_in(status: &str, sets: &[&str], signal: i32) -> bool {
    let Some(bit) = u32::try_from(signal - 1).ok().and_then(|shift| 1u64.checked_shl(shift)) else {
        return false;
    };
    sets.iter().any(|name| {
        let mask = field(status, name).and_then(|mask| u64::from_str_radix(mask, 16).ok());
        mask.unwrap_or_default() & bit != 0
    })
}

/// The value of `name:` in a text of such lines.
pub(crate) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// /proc/stat
pub(crate) fn cpu(text: &str) -> Cpu {
    let mut cpu = Cpu::default();
    for line in text.lines().filter(|line| line.starts_with("cpu")) {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("cpu") {
            cpu.count += 1;
            continue;
        }
        let ticks: Vec<u64> = words.map(number).collect();
        let micros = |columns: &[usize]| -> u64 {
            let sum: u64 = columns.iter().filter_map(|column| ticks.get(*column)).sum();
            sum.saturating_mul(TICK_MICROS)
        };
        cpu.user_micros = micros(&[0, 1]);
        cpu.system_micros = micros(&[2, 5, 6]);
        cpu.idle_micros = micros(&[3, 4]);
        cpu.steal_micros = micros(&[7]);
    }
    cpu
}

/// /proc/meminfo
pub(crate) fn memory(text: &str) -> Memory {
    let bytes = |name| {
        field(text, name).map_or(0, |value| number(value.trim_end_matches(" kB")).saturating_mul(1024))
    };
    Memory {
        total_bytes: bytes("MemTotal"),
        available_bytes: bytes("MemAvailable"),
        free_bytes: bytes("MemFree"),
        cached_bytes: bytes("Cached"),
    }
}

/// /proc/loadavg
pub(crate) fn load(text: &str) -> Load {
    let mut words = text.split_ascii_whitespace().map(|word| word.parse().unwrap_or_default());
    let mut next = || words.next().unwrap_or_default();
    Load { one: next(), five: next(), fifteen: next() }
}

/// The first number of /proc/uptime.
pub(crate) fn uptime(text: &str) -> f64 {
    text.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_default()
}

/// /proc/net/dev: the sum over all interfaces but the loopback.
pub(crate) fn network(text: &str) -> NetworkCounters {
    let mut sum = NetworkCounters::default();
    for line in text.lines() {
        let Some((name, counters)) = line.split_once(':') else { continue };
        if name.trim() == "lo" {
            continue;
        }
        let counters: Vec<u64> = counters.split_ascii_whitespace().map(number).collect();
        let column = |index: usize| counters.get(index).copied().unwrap_or_default();
        sum.received_bytes += column(0);
        sum.received_packets += column(1);
        sum.sent_bytes += column(8);
        sum.sent_packets += column(9);
    }
    sum
}

/// /proc/diskstats: bytes read and written, of whole virtio disks.
pub(crate) fn disks(text: &str) -> (u64, u64) {
    let is_disk = |name: &str| {
        name.strip_prefix("vd").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_lowercase()))
    };
    text.lines().fold((0, 0), |(read, written), line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let column = |index: usize| words.get(index).map_or(0, |word| number(word)).saturating_mul(SECTOR);
        match words.get(2) {
            Some(name) if is_disk(name) => (read + column(5), written + column(9)),
            _ => (read, written),
        }
    })
}

/// The fields of /proc/PID/stat that the agent uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) ppid: i32,
    pub(crate) terminal: u32,
    pub(crate) cpu_micros: u64,
    /// Start time in ticks after boot.
    pub(crate) started: u64,
    pub(crate) rss_pages: u64,
}

/// /proc/PID/stat. The process name in it may contain any characters, brackets too.
pub(crate) fn stat(text: &str) -> Option<Stat> {
    let (front, rest) = text.rsplit_once(')')?;
    let name = front.split_once('(')?.1.to_owned();
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Columns as proc(5) numbers them; the first two precede the bracket.
    let column = |index: usize| words.get(index - 3).copied().unwrap_or_default();
    Some(Stat {
        name,
        state: column(3).to_owned(),
        ppid: column(4).parse().ok()?,
        terminal: column(7).parse::<i32>().ok()? as u32,
        cpu_micros: (number(column(14)).saturating_add(number(column(15)))).saturating_mul(TICK_MICROS),
        started: number(column(22)),
        rss_pages: number(column(24)),
    })
}

fn number(word: &str) -> u64 {
    word.trim().parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn handled_ignored_and_blocked_signals_are_recognised() {
        let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000004002\n";
        assert!(handles_signal(status, libc::SIGINT) && handles_signal(status, libc::SIGTERM));
        assert!(handles_signal(status, libc::SIGPIPE));
        assert!(
            !handles_signal(status, libc::SIGHUP)
                && !handles_signal(status, 64)
                && !handles_signal(status, 0)
        );
    }

    #[test]
    fn cpu_time_is_in_microseconds() {
        let cpu = cpu("cpu  10 1 5 100 7 2 3 4 0 0\ncpu0 5 0 0 0\ncpu1 5 1 5 100\nintr 5\n");
        let expected = Cpu {
            count: 2,
            user_micros: 110_000,
            system_micros: 100_000,
            idle_micros: 1_070_000,
            steal_micros: 40_000,
        };
        assert_eq!(cpu, expected);
    }

    #[test]
    fn memory_is_in_bytes() {
        let text = "MemTotal:       245760 kB\nMemFree:  1 kB\nMemAvailable:  2 kB\nCached:  3 kB\n";
        let expected =
            Memory { total_bytes: 251_658_240, available_bytes: 2048, free_bytes: 1024, cached_bytes: 3072 };
        assert_eq!(memory(text), expected);
    }

    #[test]
    fn load_and_uptime_are_fractions() {
        assert_eq!(load("0.52 1.05 2.00 1/120 456\n"), Load { one: 0.52, five: 1.05, fifteen: 2.0 });
        assert!((uptime("12.34 40.00\n") - 12.34).abs() < f64::EPSILON);
    }

    #[test]
    fn counters_keep_their_64_bits() {
        let text = "Inter-| x\n face | y\n    lo: 9 9 0 0 0 0 0 0 9 9 0\n  eth0:5000000000 3 0 0 0 0 0 0 6000000000 4 0\n";
        let expected = NetworkCounters {
            received_bytes: 5_000_000_000,
            sent_bytes: 6_000_000_000,
            received_packets: 3,
            sent_packets: 4,
        };
        assert_eq!(network(text), expected);
    }

    #[test]
    fn partitions_are_not_counted_twice() {
        let text =
            " 254 0 vda 10 0 8 1 20 0 16 2 0\n 254 1 vda1 10 0 8 1 20 0 16 2 0\n 7 0 loop0 1 1 1 1 1 1 1 1\n";
        assert_eq!(disks(text), (8 * 512, 16 * 512));
    }

    #[test]
    fn a_process_name_may_hold_brackets() {
        let line = "42 (a) b(c) S 1 42 42 34816 42 4194304 1 0 0 0 150 50 0 0 20 0 1 0 777 1000 25 18446744073709551615";
        let stat = stat(line).expect("a stat");
        assert_eq!((&*stat.name, &*stat.state, stat.ppid, stat.terminal), ("a) b(c", "S", 1, 34816));
        assert_eq!((stat.cpu_micros, stat.started, stat.rss_pages), (2_000_000, 777, 25));
    }

    proptest! {
        #[test]
        fn noise_never_panics(text: String, signal: i32) {
            drop((cpu(&text), memory(&text), load(&text), network(&text), disks(&text), stat(&text)));
            handles_signal(&text, signal);
        }
    }
}
