//! The stages of a run, from its log.

use std::process::Command;

use anyhow::Result;

use super::lab::Site;
use super::result::Bench;
use super::{cold_run, stopwatch};

/// Enough runs for a median; logging adds to the measured time.
const MAX_RUNS: u32 = 10;

/// Measures the stages of some cold runs.
pub(super) fn measure(bench: &mut Bench, sites: &[Site<'_>], runs: u32) -> Result<()> {
    let logged = LoggedRun {
        command: cold_run::command_with_stages,
        stdout: &cold_run::expected_output(),
        prefix: "",
    };
    measure_stages(bench, sites, runs, &logged)
}

/// A run that logs its stages.
pub(super) struct LoggedRun<'a> {
    pub(super) command: fn(&Site<'_>) -> Command,
    /// The expected standard output.
    pub(super) stdout: &'a str,
    /// The prefix of the stages' names in the samples.
    pub(super) prefix: &'a str,
}

/// Measures the stages of some runs.
pub(super) fn measure_stages(
    bench: &mut Bench,
    sites: &[Site<'_>],
    runs: u32,
    logged: &LoggedRun<'_>,
) -> Result<()> {
    let runs = runs.min(MAX_RUNS);
    super::announce("runs with logged stages", runs);
    for _ in 0..runs {
        for site in sites {
            let attempt = stopwatch::run(&mut (logged.command)(site))?;
            attempt.printed(logged.stdout)?;
            for (stage, millis) in attempt.stderr.lines().filter_map(parse) {
                bench.stage(site.subject, &format!("{}{stage}", logged.prefix), millis);
            }
        }
    }
    Ok(())
}

/// `… stage="boot" millis=1300`
fn parse(line: &str) -> Option<(String, f64)> {
    let stage = after(line, "stage=")?.trim_matches('"').to_owned();
    let millis = after(line, "millis=")?.parse().ok()?;
    Some((stage, millis))
}

fn after<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split_whitespace().find_map(|word| word.strip_prefix(key))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_stage_lines_are_parsed() {
        let line = r#"2026-11-20T09:40:00.1Z DEBUG done component="start" stage="boot" millis=1300"#;
        assert_eq!(parse(line), Some(("boot".to_owned(), 1300.0)));
        assert_eq!(parse("pulled the image stage=x"), None);
    }
}
