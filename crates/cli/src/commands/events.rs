//! `mimeo events`: what happens to machines.

mod filter;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use mimeo_engine::{Engine, Event};
use serde::Serialize;

use crate::error::CliError;
use crate::output;
use crate::template::{Format, render};
use crate::values::timestamp;
use filter::Filter;

/// From one look for new events to the next.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Arguments of `mimeo events`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo events\n  mimeo events --no-stream --since 1h --filter event=died --json"
)]
pub(crate) struct Args {
    /// End after what has happened; otherwise go on with what happens
    #[arg(long)]
    no_stream: bool,
    /// podman's way to say --no-stream
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, hide = true)]
    stream: bool,
    /// Nothing older: a time, seconds since 1970, or 10m for ten minutes ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Nothing younger, written as --since; ends then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only some: event=, container= or image=; may be given again
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// `json`, or a text with {{.Time}}, {{.Status}}, {{.Name}}, {{.ID}} and {{.Image}}
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// As JSON, one object a line
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// An event in `--json`, in podman's words.
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

/// Which events are shown, and how.
struct Printer {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    filters: Vec<Filter>,
    format: Option<Format>,
}

/// Prints events until told to end.
pub(crate) async fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let now = Timestamp::now();
    let time =
        |flag, text: &Option<String>| text.as_deref().map(|text| timestamp(flag, text, now)).transpose();
    let printer = Printer {
        since: time("--since", &args.since)?,
        until: time("--until", &args.until)?,
        filters: args.filter.iter().map(|text| Filter::parse(text)).collect::<Result<_, _>>()?,
        format: Format::from_arguments(args.format.as_deref(), args.json),
    };
    let failed = |source| CliError::io("read the events", source);
    let events = engine.events();
    // Opened first: nothing falls between the past and what follows.
    let mut follower = events.follow();
    let stream = args.stream && !args.no_stream;
    // Who only waits for news wants none of the past, as with podman.
    if !stream || printer.since.is_some() {
        let past = events.read().map_err(failed)?;
        past.into_iter().filter(|event| event.time <= now).try_for_each(|event| printer.print(event))?;
    }
    while stream && printer.until.is_none_or(|until| Timestamp::now() < until) {
        let new = follower.read().map_err(failed)?;
        new.into_iter().filter(|event| event.time > now).try_for_each(|event| printer.print(event))?;
        tokio::time::sleep(POLL_INTERVAL).await;
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
            Some(Format::Text(text)) => {
                output::line(render(text, &serde_json::to_value(EventRow::from(event))?)?)
            }
            None => output::line(podman_line(&event)),
        }
    }
}

/// As podman writes it.
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
