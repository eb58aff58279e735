//! `mimeo setup preflight`: checks whether this host can run machines, and says how to fix what it lacks.

use mimeo_engine::Engine;
use mimeo_setup::preflight::{Check, Directories, Status, is_ready, preflight};

use crate::error::CliError;
use crate::output;

const HEADINGS: [&str; 4] = ["CHECK", "STATUS", "FOUND", "HINT"];

/// Prints the checks; the exit code is 1 if no machine can run.
pub(super) fn run(engine: &Engine, json: bool) -> Result<i32, CliError> {
    let home = engine.home();
    let checks = preflight(Directories { home: home.home(), run: home.run() });
    if json {
        output::json(&checks)?;
    } else {
        output::table(&HEADINGS, &checks.iter().map(cells).collect::<Vec<_>>())?;
    }
    Ok(if is_ready(&checks) { 0 } else { 1 })
}

fn cells(check: &Check) -> Vec<String> {
    let status = match check.status {
        Status::Ok => "ok",
        Status::Missing => "missing",
        Status::Limited => "limited",
    };
    vec![
        check.name.to_owned(),
        status.to_owned(),
        check.detail.clone(),
        check.hint.clone().unwrap_or_default(),
    ]
}
