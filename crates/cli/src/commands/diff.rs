//! `mimeo diff`: lists what a machine's container has changed of its image.

use mimeo_agent_protocol::message::{ChangesFormat, Request};
use mimeo_engine::{Engine, act};
use serde_json::{Map, Value, json};

use crate::commands::guest_data::read_all;
use crate::commands::select::Machine;
use crate::error::CliError;
use crate::output;

/// Longest list that is read into memory: about as many paths as an image may have.
const MAX_LIST: usize = 256 << 20;

/// Arguments of `mimeo diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  mimeo diff web")]
pub(crate) struct Args {
    /// Print as JSON; the only format besides the default
    #[arg(long, value_name = "FORMAT", value_parser = ["json"])]
    format: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: Machine,
}

/// Prints the changes.
pub(crate) async fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let files = act::files::open(engine, &args.machine.find(engine)?).await?;
    let listed = match files.guest(Request::ReadChanges { format: ChangesFormat::List }).await {
        Ok((_, mut stream)) => read_all(&mut stream, MAX_LIST).await,
        Err(error) => Err(error.into()),
    };
    let closed = files.close().await;
    let records = listed?;
    closed?;
    let mut changes = parse(&records);
    changes.sort_by(|a, b| a.1.cmp(b.1));
    if args.json || args.format.is_some() {
        print_json(&changes)?
    } else {
        print_lines(&changes)?
    }
    Ok(0)
}

/// A letter and a path.
type Change<'a> = (u8, &'a [u8]);

/// Parses records of a letter, a path and a zero byte.
fn parse(records: &[u8]) -> Vec<Change<'_>> {
    let records = records.split(|byte| *byte == 0);
    records.filter_map(|record| record.split_first().map(|(letter, path)| (*letter, path))).collect()
}

fn print_lines(changes: &[Change<'_>]) -> Result<(), CliError> {
    let mut text = Vec::new();
    for (letter, path) in changes {
        text.extend([*letter, b' ']);
        text.extend_from_slice(path);
        text.push(b'\n');
    }
    output::bytes(&text)
}

/// podman's form: an array of paths for each kind.
fn print_json(changes: &[Change<'_>]) -> Result<(), CliError> {
    let mut document = Map::new();
    for (letter, key) in [(b'C', "changed"), (b'A', "added"), (b'D', "deleted")] {
        let paths = changes.iter().filter(|change| change.0 == letter);
        let paths: Vec<_> = paths.map(|(_, path)| json!(String::from_utf8_lossy(path))).collect();
        if !paths.is_empty() {
            document.insert(key.to_owned(), Value::Array(paths));
        }
    }
    output::json(&document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_parsed() {
        assert_eq!(parse(b"A/a\0C/b c\0"), [(b'A', &b"/a"[..]), (b'C', b"/b c")]);
        assert!(parse(b"").is_empty());
    }
}
