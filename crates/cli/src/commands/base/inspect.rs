//! `mimeo base inspect`: shows details of bases.

use mimeo_base::Store;

use super::row::Row;
use crate::error::CliError;
use crate::output;
use crate::template::Format;

/// Arguments of `mimeo base inspect`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo base inspect debian\n  mimeo base inspect --format '{{.disk}}' debian"
)]
pub(crate) struct Args {
    /// `json`, or a template of Go's text/template with fields such as {{.disk}} and {{.root.partition}}
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print JSON (the default)
    #[arg(long)]
    json: bool,
    /// Names of bases
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Prints a JSON array of the bases that exist, and an error for each other name.
pub(crate) fn run(store: &Store, args: &Args) -> Result<i32, CliError> {
    let mut rows = Vec::new();
    let mut code = 0;
    for name in &args.names {
        match read(store, name) {
            Ok(row) => rows.push(row),
            Err(error) => {
                output::error(&error);
                code = error.exit_code();
            }
        }
    }
    match Format::from_arguments(args.format.as_deref(), args.json) {
        Some(Format::Text(text)) => {
            let values = rows.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
            text.without_heading().print(&values, &[])?;
        }
        Some(Format::Json) | None => output::json(&rows)?,
    }
    Ok(code)
}

fn read(store: &Store, name: &str) -> Result<Row, CliError> {
    Ok(Row::new(store, store.read(&name.parse()?)?))
}
