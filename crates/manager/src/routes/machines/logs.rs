//! `GET …/logs`: what a machine's container has printed.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use mimeo_engine::log::{LogDriver, LogLine, Output};
use mimeo_engine::machine::Found;
use mimeo_manager_api::{LogEntry, LogStream};
use tokio::task::spawn_blocking;

use crate::App;
use crate::find_machine::{find, recorded};
use crate::follow::{self, Line, LogReader, Position, has_ended};
use crate::http::body::{BodyError, BodySender, break_off, streamed};
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Result, Rights};

/// The largest `tail`.
const MAX_TAIL: usize = 1_000_000;

/// What is read, and how it is written.
#[derive(Debug, Clone)]
struct Options {
    follow: bool,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    tail: Option<usize>,
    stdout: bool,
    stderr: bool,
    offset: Option<Position>,
    /// Write the output as it is, instead of JSON.
    raw: bool,
    timestamps: bool,
}

/// Reads what a machine's container has printed.
///
/// Each line of the answer is a JSON document (`application/x-ndjson`); with `Accept: text/plain` it is the output itself,
/// standard output and standard error together. With `follow` the answer ends when the machine has exited and is not
/// started again, or is removed. It breaks off when the rights of the client end.
#[utoipa::path(get, path = "/{id}/logs", tag = "machines", operation_id = "logs",
    params(
        ("id" = String, Path, description = "The machine: its name, its id or the start of its id"),
        ("follow" = Option<bool>, Query, description = "Wait for more output; false by default"),
        ("since" = Option<String>, Query, description = "Only output since this time: RFC 3339, or seconds since 1970"),
        ("until" = Option<String>, Query, description = "Only output until this time"),
        ("tail" = Option<u32>, Query, description = "Only this many lines at the end, and what follows", maximum = 1_000_000),
        ("stdout" = Option<bool>, Query, description = "Standard output, or the terminal's; true by default"),
        ("stderr" = Option<bool>, Query, description = "Standard error; true by default"),
        ("timestamps" = Option<bool>, Query, description = "Begin each line of plain text with its time; false by default"),
        ("offset" = Option<String>, Query, description = "Only what follows the entry with this `offset`"),
    ),
    responses((status = 200, description = "The output.", body = LogEntry, content_type = "application/x-ndjson")))]
pub(super) async fn logs(
    State(app): State<App>,
    caller: Caller,
    rights: Rights,
    Path(word): Path<String>,
    mut query: Query,
    headers: HeaderMap,
) -> Result<Response> {
    let options = options(&mut query, &headers)?;
    query.finish()?;
    let row = find(&app, &caller, &word).await?;
    let found = recorded(&app, &row)?;
    if found.record.spec.log.driver == LogDriver::None {
        let detail = format!("cannot read the logs of machine {:?}: they are not kept", row.item.name);
        return Err(
            ApiError::new(409, "logs-disabled", detail).with_hint("create it with another log driver")
        );
    }
    let media_type = if options.raw { "text/plain; charset=utf-8" } else { "application/x-ndjson" };
    let (sender, body) = streamed();
    let task_app = app.clone();
    app.spawn(async move { send(task_app, rights, found, options, sender).await });
    Ok(([(header::CONTENT_TYPE, media_type)], body).into_response())
}

fn options(query: &mut Query, headers: &HeaderMap) -> Result<Options> {
    let mut flag = |name, default| Ok::<_, ApiError>(query.take_parsed::<bool>(name)?.unwrap_or(default));
    let (follow, stdout, stderr) = (flag("follow", false)?, flag("stdout", true)?, flag("stderr", true)?);
    let timestamps = flag("timestamps", false)?;
    let tail = query.take_parsed::<usize>("tail")?;
    if tail.is_some_and(|tail| tail > MAX_TAIL) {
        return Err(ApiError::invalid(format!("tail is more than {MAX_TAIL}")));
    }
    Ok(Options {
        follow,
        since: time(query, "since")?,
        until: time(query, "until")?,
        tail,
        stdout,
        stderr,
        offset: query.take_parsed("offset")?,
        raw: prefers_text(headers),
        timestamps,
    })
}

fn prefers_text(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.split(',').next().is_some_and(|first| first.trim().starts_with("text/plain"))
}

fn time(query: &mut Query, name: &str) -> Result<Option<Timestamp>> {
    let Some(text) = query.take(name)? else { return Ok(None) };
    let seconds = text.parse::<f64>().ok().and_then(|seconds| {
        let duration = jiff::SignedDuration::try_from_secs_f64(seconds).ok()?;
        Timestamp::from_duration(duration).ok()
    });
    match seconds.or_else(|| text.parse().ok()) {
        Some(time) => Ok(Some(time)),
        None => Err(ApiError::invalid(format!(
            "cannot read the parameter {name:?}: {text:?} is neither a time (RFC 3339) nor seconds since 1970"
        ))),
    }
}

impl Options {
    fn selects(&self, line: &LogLine) -> bool {
        let is_selected = if line.output == Output::Stdout { self.stdout } else { self.stderr };
        is_selected && self.since.is_none_or(|since| line.time >= since) && !self.is_after_until(line.time)
    }

    fn is_after_until(&self, time: Timestamp) -> bool {
        self.until.is_some_and(|until| time > until)
    }
}

/// Sends the log until its end, or until the client is gone, or may not read it any more.
async fn send(app: App, rights: Rights, found: Found, options: Options, sender: BodySender) {
    let until_gone = sender.clone();
    tokio::select! {
        sent = send_lines(&app, &found, &options, &sender) => {
            if let Err(error) = sent {
                tracing::warn!(component = "logs", machine = %found.record.id.short(), %error, "cannot read a log");
                // The client may be gone.
                sender.send(Err(error)).await.ok();
            }
        }
        () = until_gone.closed() => {}
        why = rights.ended() => break_off(&sender, &why).await,
        () = app.end().cancelled() => {}
    }
}

async fn send_lines(
    app: &App,
    found: &Found,
    options: &Options,
    sender: &BodySender,
) -> std::result::Result<(), BodyError> {
    let mut reader = begin(found, options).await?;
    let mut format = Format { options, is_partial: [false; 2] };
    loop {
        // Checked before reading: no line is written after the machine has exited.
        let is_last =
            !options.follow || has_ended(app, &found.record.id) || options.is_after_until(Timestamp::now());
        loop {
            let lines;
            (reader, lines) = spawn_blocking(move || {
                let lines = reader.read();
                (reader, lines)
            })
            .await?;
            let Some(lines) = lines? else { break };
            let text = format.format(&lines);
            if !text.is_empty() && sender.send(Ok(text)).await.is_err() {
                return Ok(());
            }
        }
        if is_last {
            return Ok(());
        }
        follow::next_look().await;
    }
}

/// The log from where the client wants it.
async fn begin(found: &Found, options: &Options) -> std::result::Result<LogReader, BodyError> {
    let (dir, config, from) = (found.dir.clone(), found.record.spec.log, options.offset);
    let Some(tail) = options.tail else { return Ok(LogReader::new(dir, config, from)) };
    let options = options.clone();
    let found = spawn_blocking(move || {
        let begin =
            LogReader::new(dir.clone(), config, from).find_tail(tail, |line| options.selects(line))?;
        Ok::<_, std::io::Error>(LogReader::new(dir, config, begin.or(from)))
    });
    Ok(found.await??)
}

/// Writes lines for the client.
struct Format<'a> {
    options: &'a Options,
    /// Whether the last line of standard output, and of standard error, is incomplete.
    is_partial: [bool; 2],
}

impl Format<'_> {
    fn format(&mut self, lines: &[Line]) -> Bytes {
        let mut text = Vec::new();
        for line in lines.iter().filter(|line| self.options.selects(&line.line)) {
            if self.options.raw {
                self.write_raw(&line.line, &mut text);
            } else {
                // Strings and numbers: serialization cannot fail.
                text.extend(serde_json::to_vec(&entry(line)).unwrap_or_default());
                text.push(b'\n');
            }
        }
        text.into()
    }

    fn write_raw(&mut self, line: &LogLine, text: &mut Vec<u8>) {
        let is_partial = &mut self.is_partial[usize::from(line.output == Output::Stderr)];
        if self.options.timestamps && !*is_partial {
            text.extend_from_slice(format!("{:.9} ", line.time).as_bytes());
        }
        text.extend_from_slice(&line.text);
        if line.full {
            text.push(b'\n');
        }
        *is_partial = !line.full;
    }
}

fn entry(line: &Line) -> LogEntry {
    let text = String::from_utf8(line.line.text.clone()).ok();
    LogEntry {
        offset: line.end.to_string(),
        time: line.line.time,
        stream: match line.line.output {
            Output::Stdout => LogStream::Stdout,
            Output::Stderr => LogStream::Stderr,
        },
        base64: text.is_none().then(|| STANDARD.encode(&line.line.text)),
        text,
        partial: !line.line.full,
        gap: line.gap,
    }
}
