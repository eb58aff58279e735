//! `mimeo inspect`: everything about a machine, or an image.

mod document;

use mimeo_engine::{Engine, FindError, Selector};
use mimeo_image::Inspection;
use serde::Serialize;

use crate::error::CliError;
use crate::output;
use crate::template::{Format, render};
use crate::view::ImageNames;
use document::Document;

/// Arguments of `mimeo inspect`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo inspect web\n  mimeo inspect --format '{{.State.Pid}}' web\n  mimeo inspect --pid $!"
)]
pub(crate) struct Args {
    /// `json`, or a text with fields such as {{.State.Status}}
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// As JSON, which it always is
    #[arg(long)]
    json: bool,
    /// What the names are names of
    #[arg(short = 't', long = "type", default_value = "all", value_enum)]
    kind: Kind,
    /// Machines or images, by name or id
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// A machine by the process id of its monitor; may be given again
    #[arg(long)]
    pid: Vec<u32>,
}

/// What a name is a name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// A machine, else an image
    All,
    /// A machine
    Container,
    /// An image
    Image,
}

/// What a name led to.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Object {
    Machine(Box<Document>),
    Image(Box<Inspection>),
}

/// Prints a JSON array of all that was found; what was not is told, and the
/// exit code is podman's 125.
pub(crate) fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let names = ImageNames::load(engine)?;
    let words = args.names.iter().cloned().map(Selector::Word);
    let selectors: Vec<_> = words.chain(args.pid.iter().copied().map(Selector::Pid)).collect();
    if selectors.is_empty() {
        return Err(CliError::usage("name a machine or an image, or give --pid"));
    }
    let (mut found, mut code) = (Vec::new(), 0);
    for selector in selectors {
        match look_up(engine, &selector, args.kind, &names) {
            Ok(object) => found.push(object),
            Err(error) => {
                output::error(&error);
                code = error.exit_code();
            }
        }
    }
    match Format::from_arguments(args.format.as_deref(), args.json) {
        Some(Format::Text(template)) => {
            for object in &found {
                output::line(render(&template, &serde_json::to_value(object)?)?)?;
            }
        }
        Some(Format::Json) | None => output::json(&found)?,
    }
    Ok(code)
}

fn look_up(engine: &Engine, selector: &Selector, kind: Kind, names: &ImageNames) -> Result<Object, CliError> {
    if kind != Kind::Image {
        match engine.registry().find(selector) {
            Ok(found) => {
                let process = found.record.surroundings();
                return Ok(Object::Machine(Box::new(Document::new(&found, process, names))));
            }
            Err(FindError::None(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if let (Selector::Word(word), Kind::All | Kind::Image) = (selector, kind)
        && let Some(image) = engine.images()?.inspect(word)?
    {
        return Ok(Object::Image(Box::new(image)));
    }
    Err(CliError::usage(format!("no such object: {:?}", selector.to_string())))
}
