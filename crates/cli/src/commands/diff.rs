//! `mimeo diff`: lists what a machine's container has changed of its image, or how images differ.

use mimeo_agent_protocol::message::{ChangesFormat, Request};
use mimeo_engine::{Engine, Found, act};
use mimeo_image::ChangeKind;
use serde_json::{Map, Value, json};

use crate::backend::{Host, local};
use crate::commands::guest_data::read_all;
use crate::commands::image::unknown;
use crate::commands::select::Machine;
use crate::error::CliError;
use crate::output;

/// Longest list that is read into memory: about as many paths as an image may have.
const MAX_LIST: usize = 256 << 20;

/// Arguments of `mimeo diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mimeo diff web\n  mimeo diff alpine:3.20 alpine:3.19")]
pub(crate) struct Args {
    /// Print as JSON; the only format besides the default
    #[arg(long, value_name = "FORMAT", value_parser = ["json"])]
    format: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// The machine, or an image: its name, its id or the start of its id
    #[arg(value_name = "MACHINE", required_unless_present_any = ["pid", "latest"])]
    name: Option<String>,
    /// An image to compare the image with, instead of with its own layers below the topmost
    #[arg(value_name = "IMAGE")]
    base: Option<String>,
    /// Select the machine by the process id of its supervisor
    #[arg(long, conflicts_with = "name")]
    pid: Option<u32>,
    /// Select the machine that was created last
    #[arg(short, long, conflicts_with_all = ["name", "pid"])]
    latest: bool,
}

/// Prints the changes of a machine, or of an image if there is no machine of that name.
pub(crate) async fn run(host: &Host, args: &Args) -> Result<i32, CliError> {
    let engine = local(host, "compare a machine with its image")?;
    let machine = Machine { name: args.name.clone(), pid: args.pid, latest: args.latest };
    let format = args.json || args.format.is_some();
    match (machine.find(host).await, &args.name) {
        (Ok(_), _) if args.base.is_some() => Err(CliError::usage(
            "cannot compare a machine with an image: make an image of it with `mimeo commit`, and compare that",
        )),
        (Ok(found), _) => diff_machine(engine, &found, format).await,
        (Err(error), Some(image)) => {
            let is_image = engine.images()?.find(image)?.is_some();
            if is_image { diff_image(engine, image, args.base.as_deref(), format).await } else { Err(error) }
        }
        (Err(error), None) => Err(error),
    }
}

/// Prints how an image differs from another one, or from itself without its topmost layer.
pub(crate) async fn diff_image(
    engine: &Engine,
    image: &str,
    base: Option<&str>,
    is_json: bool,
) -> Result<i32, CliError> {
    let store = engine.images()?;
    let find = |text: &str| store.find(text)?.ok_or_else(|| unknown(text));
    let (image, base) = (find(image)?, base.map(find).transpose()?);
    let compared = tokio::task::spawn_blocking(move || store.diff(&image, base.as_ref())).await??;
    let letter = |kind: ChangeKind| match kind {
        ChangeKind::Added => b'A',
        ChangeKind::Changed => b'C',
        ChangeKind::Deleted => b'D',
    };
    let changes: Vec<_> = compared.iter().map(|(path, kind)| (letter(*kind), &path[..])).collect();
    print(&changes, is_json)
}

async fn diff_machine(engine: &Engine, machine: &Found, is_json: bool) -> Result<i32, CliError> {
    let files = act::files::open(engine, machine, act::files::TIMEOUT).await?;
    let listed = match files.guest(Request::ReadChanges { format: ChangesFormat::List }).await {
        Ok((_, mut stream)) => read_all(&mut stream, MAX_LIST).await,
        Err(error) => Err(error.into()),
    };
    let closed = files.close().await;
    let records = listed?;
    closed?;
    let mut changes = parse(&records);
    changes.sort_by(|a, b| a.1.cmp(b.1));
    print(&changes, is_json)
}

fn print(changes: &[Change<'_>], is_json: bool) -> Result<i32, CliError> {
    if is_json {
        print_json(changes)?
    } else {
        print_lines(changes)?
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
