//! `mimeo base validate`: checks whether machines can start from a base or an image.

use std::path::{Path, PathBuf};

use mimeo_base::{BaseName, Check, Store, StoreError, is_usable};

use crate::error::CliError;
use crate::output;
use crate::template::Format;

const HEADINGS: [&str; 4] = ["CHECK", "OUTCOME", "FOUND", "HINT"];

/// Arguments of `mimeo base validate`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo base validate debian\n  mimeo base validate ./debian-12.qcow2\n  mimeo base validate --format '{{range .checks}}{{.name}} {{.outcome}}\\n{{end}}' debian"
)]
pub(crate) struct Args {
    /// `json`, or a template of Go's text/template with the fields {{.checks}}, {{.root}} and {{.system}}
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// The name of a base, or the path of an image
    #[arg(value_name = "NAME|FILE")]
    image: String,
}

/// Prints the checks; the exit code is 1 if one of them is an error.
pub(crate) fn run(store: &Store, args: &Args) -> Result<i32, CliError> {
    let report = mimeo_base::validate(&find(store, &args.image)?)?;
    match Format::from_arguments(args.format.as_deref(), args.json) {
        Some(Format::Json) => output::json(&report)?,
        Some(Format::Text(text)) => text.print(&[serde_json::to_value(&report)?], &[])?,
        None => output::table(&HEADINGS, &report.checks.iter().map(cells).collect::<Vec<_>>())?,
    }
    Ok(if is_usable(&report.checks) { 0 } else { 1 })
}

/// The disk of the base that has this name, otherwise the file of that path.
fn find(store: &Store, image: &str) -> Result<PathBuf, CliError> {
    let name = image.parse::<BaseName>().ok();
    match name {
        Some(name) if store.disk(&name).exists() => Ok(store.disk(&name)),
        Some(name) if !Path::new(image).exists() => Err(StoreError::NotFound { name }.into()),
        _ => Ok(PathBuf::from(image)),
    }
}

fn cells(check: &Check) -> Vec<String> {
    vec![
        check.name.clone(),
        check.outcome.as_str().to_owned(),
        check.detail.clone(),
        check.hint.clone().unwrap_or_default(),
    ]
}
