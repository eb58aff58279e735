//! `mimeo history`: shows the steps that built an image.

use jiff::Timestamp;
use mimeo_engine::Engine;
use mimeo_image::{Image, Step};

use crate::error::CliError;
use crate::template::Format;
use crate::{humanize, output};

const HEADINGS: [&str; 5] = ["ID", "CREATED", "CREATED BY", "SIZE", "COMMENT"];
/// podman's placeholder for the id of a step that is not the last one.
const MISSING: &str = "<missing>";
/// podman's width of a command.
const COMMAND_WIDTH: usize = 45;

/// Arguments of `mimeo history`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  mimeo history --no-trunc alpine")]
pub(crate) struct Args {
    /// `json`, or a template of Go's text/template with fields such as {{.CreatedBy}} and {{.Size}}
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show how long ago a step was run, instead of when
    #[arg(short = 'H', long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = true, action = clap::ArgAction::Set)]
    human: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// Do not truncate ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Print only ids
    #[arg(short, long)]
    quiet: bool,
    /// The image: a name or an id
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// A step, formatted.
struct Line {
    id: String,
    created: String,
    created_at: String,
    created_by: String,
    size: String,
    comment: String,
    tags: Vec<String>,
}

/// Prints the steps, newest first.
pub(crate) fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let found = engine.images()?.history(&args.image)?;
    let (image, steps) = found.ok_or_else(|| super::unknown(&args.image))?;
    let now = Timestamp::now();
    let lines = steps.iter().enumerate().map(|(index, step)| Line::new(args, &image, index, step, now));
    if args.quiet {
        lines.map(|line| line.id).try_for_each(output::line)?;
        return Ok(0);
    }
    match Format::from_arguments(args.format.as_deref(), args.json) {
        Some(Format::Json) => {
            let steps = steps.iter().enumerate();
            output::json(&steps.map(|(index, step)| json(&image, index, step)).collect::<Vec<_>>())?;
        }
        Some(Format::Text(text)) => {
            text.print(&lines.map(|line| line.fields()).collect::<Vec<_>>(), &[("CreatedSince", "CREATED")])?;
        }
        None => output::table(&HEADINGS, &lines.map(Line::cells).collect::<Vec<_>>())?,
    }
    Ok(0)
}

/// Only the image itself has an id; its steps were never images here.
fn id(image: &Image, index: usize, full: bool) -> String {
    match (index, full) {
        (0, true) => image.id.hex(),
        (0, false) => image.short_id(),
        _ => MISSING.to_owned(),
    }
}

fn created(step: &Step) -> Option<Timestamp> {
    step.entry.created.as_ref()?.parse().ok()
}

/// A step with podman's field names.
fn json(image: &Image, index: usize, step: &Step) -> serde_json::Value {
    let mut value = serde_json::json!({
        "id": id(image, index, true),
        "created": step.entry.created,
        "Created": created(step).map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        "CreatedBy": step.entry.created_by.as_deref().unwrap_or_default(),
        "size": step.size,
        "comment": step.entry.comment.as_deref().unwrap_or_default(),
    });
    if index == 0 && !image.names.is_empty() {
        value["tags"] = image.names.clone().into();
    }
    value
}

impl Line {
    fn new(args: &Args, image: &Image, index: usize, step: &Step, now: Timestamp) -> Self {
        let at = created(step);
        let ago = at.map(|then| humanize::ago(then, now));
        let exact = at.map(|then| then.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        let command = step.entry.created_by.as_deref().unwrap_or_default().replace(['\n', '\t'], " ");
        Self {
            id: id(image, index, args.no_trunc),
            created: if args.human { ago } else { exact }.unwrap_or_default(),
            created_at: at
                .map(|then| then.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string())
                .unwrap_or_default(),
            created_by: if args.no_trunc { command } else { shorten(&command) },
            size: humanize::spaced_size(step.size),
            comment: step.entry.comment.clone().unwrap_or_default(),
            tags: if index == 0 { image.names.clone() } else { Vec::new() },
        }
    }

    fn cells(self) -> Vec<String> {
        vec![self.id, self.created, self.created_by, self.size, self.comment]
    }

    fn fields(&self) -> serde_json::Value {
        serde_json::json!({"ID": self.id, "Created": self.created, "CreatedSince": self.created,
                           "CreatedAt": self.created_at, "CreatedBy": self.created_by, "Size": self.size,
                           "Comment": self.comment, "Tags": self.tags})
    }
}

fn shorten(command: &str) -> String {
    if command.chars().count() <= COMMAND_WIDTH {
        return command.to_owned();
    }
    let start: String = command.chars().take(COMMAND_WIDTH - 3).collect();
    format!("{start}...")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_commands_are_shortened_to_podmans_width() {
        assert_eq!(shorten("short"), "short");
        let long = shorten(&"x".repeat(46));
        assert_eq!((long.len(), long.ends_with("xxx...")), (45, true));
        assert_eq!(shorten(&"é".repeat(45)).chars().count(), 45);
    }
}
