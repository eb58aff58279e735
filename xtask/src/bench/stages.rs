//! Where a run's time goes, as its own log tells.

use std::process::Command;

use anyhow::Result;

use super::lab::Site;
use super::result::Bench;
use super::{cold_run, stopwatch};

/// Enough for a median; the log itself is part of what is measured here.
const MOST: u32 = 10;

/// The stages of some cold runs.
pub(super) fn measure(bench: &mut Bench, sites: &[Site<'_>], runs: u32) -> Result<()> {
    of(
        bench,
        sites,
        runs,
        &Telling { command: cold_run::command_that_tells, says: &cold_run::said(), of: "" },
    )
}

/// Runs that tell their stages.
pub(super) struct Telling<'a> {
    pub(super) command: fn(&Site<'_>) -> Command,
    /// What they print.
    pub(super) says: &'a str,
    /// What stands before the names of their stages.
    pub(super) of: &'a str,
}

/// The stages of some such runs.
pub(super) fn of(bench: &mut Bench, sites: &[Site<'_>], runs: u32, telling: &Telling<'_>) -> Result<()> {
    let runs = runs.min(MOST);
    super::announce("runs that tell their stages", runs);
    for _ in 0..runs {
        for site in sites {
            let attempt = stopwatch::run(&mut (telling.command)(site))?;
            attempt.printed(telling.says)?;
            for (stage, millis) in attempt.stderr.lines().filter_map(parse) {
                bench.stage(site.key, &format!("{}{stage}", telling.of), millis);
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
    fn stages_are_read_and_other_lines_are_not() {
        let line = r#"2026-11-20T09:40:00.1Z DEBUG done component="start" stage="boot" millis=1300"#;
        assert_eq!(parse(line), Some(("boot".to_owned(), 1300.0)));
        assert_eq!(parse("pulled the image stage=x"), None);
    }
}
