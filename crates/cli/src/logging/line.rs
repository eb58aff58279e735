//! The format of the log, one line per event: `time LEVEL component machine: message fields`.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes events as lines.
#[derive(Debug)]
pub(super) struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut parts = Parts::default();
        event.record(&mut parts);
        let level = *event.metadata().level();
        let now = jiff::Timestamp::now();
        let colour = writer.has_ansi_escapes();
        writeln!(writer, "{now:.3} {} {}", painted(level, colour), parts.to_line())
    }
}

fn painted(level: Level, colour: bool) -> String {
    let code = match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    };
    if colour { format!("\x1b[{code}m{level:5}\x1b[0m") } else { format!("{level:5}") }
}

/// An event's fields, sorted by where they appear in the line.
#[derive(Debug, Default)]
struct Parts {
    component: String,
    machine: String,
    message: String,
    others: String,
}

impl Parts {
    fn to_line(&self) -> String {
        let prefix = [self.component.as_str(), self.machine.as_str()];
        let prefix: Vec<_> = prefix.into_iter().filter(|word| !word.is_empty()).collect();
        let colon = if prefix.is_empty() { "" } else { ": " };
        let line = format!("{}{colon}{}{}", prefix.join(" "), self.message, self.others);
        // Text from a guest must not control the terminal.
        line.replace(|character: char| character.is_control(), " ")
    }

    fn set(&mut self, name: &str, value: String) {
        match name {
            "component" => self.component = value,
            "machine" => self.machine = value,
            "message" => self.message = value,
            // Writing to a String cannot fail.
            _ if value.is_empty() || value.contains([' ', '"']) => {
                write!(self.others, " {name}={value:?}").unwrap_or(())
            }
            _ => write!(self.others, " {name}={value}").unwrap_or(()),
        }
    }
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field.name(), format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn component_and_machine_come_before_the_message() {
        let mut parts = Parts::default();
        parts.set("path", "/a b".to_owned());
        parts.set("message", "went\nwrong".to_owned());
        parts.set("machine", "web".to_owned());
        parts.set("component", "supervisor".to_owned());
        parts.set("code", "3".to_owned());
        assert_eq!(parts.to_line(), "supervisor web: went wrong path=\"/a b\" code=3");
        assert_eq!(painted(Level::INFO, false), "INFO ");
    }
}
