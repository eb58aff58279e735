//! `mimeo events`: prints events of machines.

mod filter;

use std::collections::BTreeMap;

use jiff::Timestamp;
use mimeo_engine::Event;
use serde::Serialize;

use crate::backend::Host;
use crate::error::CliError;
use crate::output;
use crate::template::Format;
use crate::values::timestamp;
use filter::Filter;

/// Arguments of `mimeo events`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo events\n  mimeo events --no-stream --since 1h --filter event=died --json"
)]
pub(crate) struct Args {
    /// Print past events and exit, instead of waiting for new ones
    #[arg(long)]
    no_stream: bool,
    /// podman's form of --no-stream
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, hide = true)]
    stream: bool,
    /// Only events since this time: a date and time, seconds since 1970, or 10m for ten minutes ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only events until this time, in the form of --since; exit then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only matching events: event=, container= or image=; can be repeated
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// `json`, or a template of Go's text/template with {{.Time}}, {{.Status}}, {{.Name}}, {{.ID}} and {{.Image}}
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print JSON, one object per line
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// An event in `--json`, with podman's field names.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct EventRow {
    #[serde(rename = "ID")]
    id: String,
    name: String,
    image: String,
    status: String,
    time: Timestamp,
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_exit_code: Option<i32>,
    attributes: BTreeMap<String, String>,
}

/// Which events to print, and how.
struct Printer {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    filters: Vec<Filter>,
    format: Option<Format>,
}

/// Prints past events, then new ones until `--until`.
pub(crate) async fn run(host: &Host, args: &Args) -> Result<i32, CliError> {
    let now = Timestamp::now();
    let time =
        |flag, text: &Option<String>| text.as_deref().map(|text| timestamp(flag, text, now)).transpose();
    let printer = Printer {
        since: time("--since", &args.since)?,
        until: time("--until", &args.until)?,
        filters: args.filter.iter().map(|text| Filter::parse(text)).collect::<Result<_, _>>()?,
        format: Format::from_arguments(args.format.as_deref(), args.json),
    };
    let stream = args.stream && !args.no_stream;
    // Without --since, a stream starts with new events only, as podman's does.
    let mut events = host.events(!stream || printer.since.is_some()).await?;
    let past = events.past().await?;
    past.into_iter().filter(|event| event.time <= now).try_for_each(|event| printer.print(event))?;
    while stream && printer.until.is_none_or(|until| Timestamp::now() < until) {
        let new = events.next().await?;
        new.into_iter().filter(|event| event.time > now).try_for_each(|event| printer.print(event))?;
    }
    Ok(0)
}

impl Printer {
    fn print(&self, event: Event) -> Result<(), CliError> {
        let in_time = self.since.is_none_or(|since| event.time >= since)
            && self.until.is_none_or(|until| event.time <= until);
        if !in_time || !filter::accepts(&self.filters, &event) {
            return Ok(());
        }
        match &self.format {
            Some(Format::Json) => output::line(serde_json::to_string(&EventRow::from(event))?),
            Some(Format::Text(text)) => text.print(&[serde_json::to_value(EventRow::from(event))?], &[]),
            None => output::line(podman_line(&event)),
        }
    }
}

/// The event as podman prints it.
fn podman_line(event: &Event) -> String {
    let time = event.time.strftime("%Y-%m-%d %H:%M:%S.%9f +0000 UTC");
    let mut details = vec![format!("image={}", event.image), format!("name={}", event.name)];
    details.extend(event.attributes.iter().map(|(key, value)| format!("{key}={value}")));
    format!("{time} container {} {} ({})", event.action, event.id, details.join(", "))
}

impl From<Event> for EventRow {
    fn from(event: Event) -> Self {
        let code = event.attributes.get("exit_code").and_then(|code| code.parse().ok());
        let Event { time, action, id, name, image, attributes } = event;
        let kind = "container";
        Self { id, name, image, status: action, time, kind, container_exit_code: code, attributes }
    }
}
