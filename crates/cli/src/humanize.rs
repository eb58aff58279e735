//! Durations, sizes and commands formatted as podman does. Pure: the caller passes the time.

use jiff::{SignedDuration, Timestamp};

/// Characters of a command that a table shows before it is truncated.
const COMMAND_WIDTH: usize = 17;

/// `Less than a second`, `5 seconds`, `About a minute`, `3 weeks`.
pub(crate) fn duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{minutes} minutes"),
        _ => long_duration(hours, seconds / 3600),
    }
}

fn long_duration(rounded: i64, hours: i64) -> String {
    match rounded {
        ..=1 => "About an hour".to_owned(),
        2..48 => format!("{rounded} hours"),
        48..336 => format!("{} days", rounded / 24),
        336..1440 => format!("{} weeks", rounded / 24 / 7),
        1440..17520 => format!("{} months", rounded / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// `5 seconds ago`.
pub(crate) fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", duration(now.duration_since(then)))
}

/// `557.1kB`: powers of 1000, `digits` significant digits.
pub(crate) fn size(bytes: u64, digits: usize) -> String {
    let (number, unit) = scaled(bytes, digits);
    format!("{number}{unit}")
}

/// `4.26 MB`, as in lists of images.
pub(crate) fn spaced_size(bytes: u64) -> String {
    let (number, unit) = scaled(bytes, 3);
    format!("{number} {unit}")
}

fn scaled(bytes: u64, digits: usize) -> (String, &'static str) {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    (significant(value, digits), UNITS[unit])
}

/// `288KiB`: powers of 1024, four significant digits.
pub(crate) fn binary_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{}{}", significant(value, 4), UNITS[unit])
}

/// A number below 1000 with `digits` significant digits, without trailing zeros after the point.
fn significant(value: f64, digits: usize) -> String {
    let integer_digits = if value >= 100.0 {
        3
    } else if value >= 10.0 {
        2
    } else {
        1
    };
    let text = format!("{value:.*}", digits.saturating_sub(integer_digits));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A command on one line, truncated as podman does unless `full`.
pub(crate) fn command(words: &[String], full: bool) -> String {
    let line = words.join(" ").replace(['\n', '\t', '\r'], " ");
    if full || line.chars().count() <= COMMAND_WIDTH {
        return line;
    }
    let start: String = line.chars().take(COMMAND_WIDTH).collect();
    format!("{start}...")
}

/// `1m2s`: CPU time as in podman's tables.
pub(crate) fn cpu_time(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    match seconds {
        0 if micros == 0 => "0s".to_owned(),
        0 if micros < 1000 => format!("{micros}µs"),
        0 => format!("{}ms", micros / 1000),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        _ => format!("{}h{}m{}s", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_podmans() {
        let text = |seconds| duration(SignedDuration::from_secs(seconds));
        let expected = [
            (-5, "Less than a second"),
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86400, "2 weeks"),
            (60 * 86400, "2 months"),
            (800 * 86400, "2 years"),
        ];
        expected.into_iter().for_each(|(seconds, words)| assert_eq!(text(seconds), words, "{seconds}"));
    }

    #[test]
    fn sizes_read_as_podmans() {
        for (bytes, words) in [(0, "0B"), (999, "999B"), (557_100, "557.1kB"), (25_280_000_000, "25.28GB")] {
            assert_eq!(size(bytes, 4), words);
        }
        assert_eq!(spaced_size(2_000_000), "2 MB");
        assert_eq!(spaced_size(4_261_550), "4.26 MB");
        assert_eq!(spaced_size(141_000_000), "141 MB");
    }

    #[test]
    fn commands_are_truncated_as_podman_does() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(command(&words("sleep 1000"), false), "sleep 1000");
        assert_eq!(command(&words("sh -c echo hi; echo err"), false), "sh -c echo hi; ec...");
        assert_eq!(command(&words("sh -c echo hi; echo err"), true), "sh -c echo hi; echo err");
        assert_eq!(command(&["a\nb".to_owned()], false), "a b");
    }

    #[test]
    fn cpu_times_are_short() {
        for (micros, words) in
            [(0, "0s"), (5, "5µs"), (5000, "5ms"), (61_000_000, "1m1s"), (3_661_000_000, "1h1m1s")]
        {
            assert_eq!(cpu_time(micros), words);
        }
    }
}
