//! `--filter`: which events are shown. Filters of one kind are alternatives, kinds add up.

use mimeo_engine::Event;

use crate::error::CliError;

/// One filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Filter {
    Action(String),
    Container(String),
    Image(String),
    /// Every event is one of a container.
    Type(String),
}

impl Filter {
    /// Reads `KEY=VALUE`.
    pub(super) fn parse(text: &str) -> Result<Self, CliError> {
        match text.split_once('=') {
            Some(("event" | "status", value)) => Ok(Self::Action(value.to_owned())),
            Some(("container" | "name", value)) => Ok(Self::Container(value.to_owned())),
            Some(("image", value)) => Ok(Self::Image(value.to_owned())),
            Some(("type", value)) => Ok(Self::Type(value.to_owned())),
            _ => Err(CliError::usage(format!(
                "{text:?} is an invalid filter: event=, container= and image= are"
            ))),
        }
    }

    fn accepts(&self, event: &Event) -> bool {
        match self {
            Self::Action(action) => event.action == *action,
            Self::Container(word) => event.name == *word || event.id.starts_with(word.as_str()),
            Self::Image(part) => event.image.contains(part.as_str()),
            Self::Type(kind) => kind == "container",
        }
    }
}

/// Whether all kinds of filters like the event.
pub(super) fn accepts(filters: &[Filter], event: &Event) -> bool {
    filters.iter().all(|filter| {
        let same = |other: &&Filter| std::mem::discriminant(*other) == std::mem::discriminant(filter);
        filters.iter().filter(same).any(|other| other.accepts(event))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_one_kind_are_alternatives_and_kinds_add_up() {
        let json = r#"{"time": "2026-01-31T12:00:00Z", "action": "died", "id": "abc", "name": "web", "image": "bb"}"#;
        let event: Event = serde_json::from_str(json).expect("an event");
        let accepted = |texts: &[&str]| {
            let filters: Vec<_> = texts.iter().map(|text| Filter::parse(text).expect("a filter")).collect();
            accepts(&filters, &event)
        };
        assert!(accepted(&[]) && accepted(&["event=died"]) && accepted(&["event=start", "event=died"]));
        assert!(accepted(&["container=web", "event=died"]) && accepted(&["container=ab"]));
        assert!(!accepted(&["container=web", "event=start"]) && !accepted(&["image=alpine"]));
        assert!(Filter::parse("foo=x").is_err());
    }
}
