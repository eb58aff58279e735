//! `mimeo inspect`: shows details of machines, images or named volumes.

mod container;
mod document;

use mimeo_engine::Selector;
use mimeo_image::Inspection;
use serde::Serialize;
use serde_json::Value;

use crate::backend::Host;
use crate::commands::image::inspect::podman;
use crate::commands::select::latest;
use crate::commands::volume;
use crate::error::CliError;
use crate::mounts;
use crate::output;
use crate::template::Format;
use crate::view::ImageNames;
use document::Document;

/// Arguments of `mimeo inspect`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo inspect web\n  mimeo inspect --format '{{.State.Pid}}' web\n  mimeo inspect --pid $!"
)]
pub(crate) struct Args {
    /// `json`, or a template of Go's text/template with fields such as {{.State.Status}}
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print JSON (the default)
    #[arg(long)]
    json: bool,
    /// Type of the named objects
    #[arg(short = 't', long = "type", default_value = "all", value_enum)]
    kind: Kind,
    /// Names or ids of machines, images or named volumes
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Select a machine by the process id of its supervisor; can be repeated
    #[arg(long)]
    pid: Vec<u32>,
    /// Select the machine that was created last
    #[arg(short, long)]
    latest: bool,
}

impl Args {
    /// The same for machines only.
    pub(crate) fn for_machines(self) -> Self {
        Self { kind: Kind::Container, ..self }
    }
}

/// The type of a named object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// A machine, or else an image or a named volume
    All,
    /// A machine
    Container,
    /// An image
    Image,
    /// A named volume
    Volume,
}

/// An object that was found.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Object {
    Machine(Box<Document>),
    Image(Box<Inspection>),
    Volume(Box<volume::row::Row>),
}

impl Object {
    /// The fields for `--format`: those of the JSON, and podman's other names for them.
    fn fields(&self) -> Result<Value, CliError> {
        match self {
            Self::Machine(document) => document.fields(),
            Self::Image(inspection) => podman::fields(inspection),
            Self::Volume(row) => row.fields(),
        }
    }
}

/// Prints a JSON array of the objects that exist, and an error for each other
/// name; then the exit code is podman's 125.
pub(crate) async fn run(host: &Host, args: &Args) -> Result<i32, CliError> {
    let names = ImageNames::load(host).await?;
    let words = args.names.iter().cloned().map(Selector::NameOrId);
    let mut selectors: Vec<_> = words.chain(args.pid.iter().copied().map(Selector::Pid)).collect();
    if args.latest {
        selectors.push(Selector::NameOrId(latest(host).await?.record.id.to_string()));
    }
    if selectors.is_empty() {
        return Err(CliError::usage("nothing to inspect: give the name of a machine or an image, or --pid"));
    }
    let (mut found, mut code) = (Vec::new(), 0);
    for selector in selectors {
        match look_up(host, &selector, args.kind, &names).await {
            Ok(object) => found.push(object),
            Err(error) => {
                output::error(&error);
                code = error.exit_code();
            }
        }
    }
    match Format::from_arguments(args.format.as_deref(), args.json) {
        Some(Format::Text(text)) => {
            let values = found.iter().map(Object::fields).collect::<Result<Vec<_>, _>>()?;
            // podman's inspect prints no heading, even for `table`.
            text.without_heading().print(&values, &[])?;
        }
        Some(Format::Json) | None => output::json(&found)?,
    }
    Ok(code)
}

async fn look_up(
    host: &Host,
    selector: &Selector,
    kind: Kind,
    names: &ImageNames,
) -> Result<Object, CliError> {
    if matches!(kind, Kind::All | Kind::Container) {
        match host.find(selector).await {
            Ok(found) => {
                let process = found.record.exec_defaults();
                let mounts = mounts::all(host, &found, names);
                return Ok(Object::Machine(Box::new(Document::new(&found, process, names, mounts))));
            }
            Err(error) if error.is_none() => {}
            Err(error) => return Err(error.into()),
        }
    }
    if let (Selector::NameOrId(word), Kind::All | Kind::Image) = (selector, kind)
        && let Some(image) = host.inspect_image(word).await?
    {
        return Ok(Object::Image(Box::new(image)));
    }
    if let (Selector::NameOrId(word), Kind::All | Kind::Volume) = (selector, kind)
        && let Some(engine) = host.local_engine()
        && let Some(found) = volume::find(engine, word)?
    {
        let users = volume::VolumeUsers::load(engine)?;
        return Ok(Object::Volume(Box::new(volume::row::Row::new(engine, &found, &users))));
    }
    Err(CliError::usage(format!("no such object: {:?}", selector.to_string())))
}
