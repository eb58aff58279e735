//! `--filter`: selects events. Filters of the same kind are alternatives (OR);
//! different kinds all have to match (AND).

use mimeo_engine::Event;

use crate::error::CliError;

/// One filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Filter {
    Action(String),
    Container(String),
    Image(String),
    /// `container` matches every event; no other type matches any.
    Type(String),
}

impl Filter {
    /// Parses `KEY=VALUE`.
    pub(super) fn parse(text: &str) -> Result<Self, CliError> {
        match text.split_once('=') {
            Some(("event" | "status", value)) => Ok(Self::Action(value.to_owned())),
            Some(("container" | "name", value)) => Ok(Self::Container(value.to_owned())),
            Some(("image", value)) => Ok(Self::Image(value.to_owned())),
            Some(("type", value)) => Ok(Self::Type(value.to_owned())),
            _ => Err(CliError::usage(format!(
                "{text:?} is an invalid filter: use event=, container= or image="
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

/// Whether the event passes all kinds of filters.
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
