//! `--filter` of named volumes. Filters of the same kind are alternatives (OR); different kinds, and all labels, have to
//! match (AND).

use std::collections::BTreeMap;

use jiff::Timestamp;
use mimeo_engine::volumes::Volume;
use regex::Regex;

use crate::commands::run::volumes::LOCAL_DRIVER;
use crate::error::CliError;
use crate::values::timestamp;

/// One filter.
#[derive(Debug, Clone)]
enum Filter {
    Name(Regex),
    Label(String, Option<String>),
    NotLabel(String, Option<String>),
    Option(String, Option<String>),
    Dangling(bool),
    Driver(String),
    Scope(String),
    Until(Timestamp),
}

/// All filters of a command.
#[derive(Debug)]
pub(super) struct Filters(Vec<Filter>);

impl Filters {
    /// Parses each `KEY=VALUE`.
    pub(super) fn parse(texts: &[String]) -> Result<Self, CliError> {
        texts.iter().map(|text| Filter::parse(text)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the volume, which `users` machines refer to, passes all kinds of filters.
    pub(super) fn accept(&self, volume: &Volume, users: usize) -> bool {
        self.0.iter().all(|filter| match filter {
            Filter::Label(..) | Filter::NotLabel(..) => filter.accepts(volume, users),
            _ => {
                let same = |other: &&Filter| std::mem::discriminant(*other) == std::mem::discriminant(filter);
                self.0.iter().filter(same).any(|other| other.accepts(volume, users))
            }
        })
    }
}

impl Filter {
    fn parse(text: &str) -> Result<Self, CliError> {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| CliError::usage(format!("{text:?} is an invalid filter: use KEY=VALUE")))?;
        match key {
            "name" => pattern(value).map(Self::Name),
            "label" => Ok(pair(value, Self::Label)),
            "label!" => Ok(pair(value, Self::NotLabel)),
            "opt" => Ok(pair(value, Self::Option)),
            "dangling" => boolean(value).map(Self::Dangling),
            "driver" => Ok(Self::Driver(value.to_owned())),
            "scope" => Ok(Self::Scope(value.to_owned())),
            "until" => timestamp("--filter until", value, Timestamp::now()).map(Self::Until),
            _ => Err(CliError::usage(format!("{key:?} is an invalid volume filter"))),
        }
    }

    fn accepts(&self, volume: &Volume, users: usize) -> bool {
        match self {
            Self::Name(pattern) => pattern.is_match(volume.name.as_str()),
            Self::Label(key, value) => has(&volume.labels, key, value.as_ref()),
            Self::NotLabel(key, value) => !has(&volume.labels, key, value.as_ref()),
            Self::Option(key, value) => has(&volume.options, key, value.as_ref()),
            Self::Dangling(dangling) => (users == 0) == *dangling,
            Self::Driver(name) => name == LOCAL_DRIVER,
            Self::Scope(name) => name == "local",
            Self::Until(time) => volume.created <= *time,
        }
    }
}

fn pattern(text: &str) -> Result<Regex, CliError> {
    Regex::new(text)
        .map_err(|error| CliError::usage(format!("--filter name={text:?} is not a pattern: {error}")))
}

fn pair(text: &str, make: impl Fn(String, Option<String>) -> Filter) -> Filter {
    match text.split_once('=') {
        Some((key, value)) => make(key.to_owned(), Some(value.to_owned())),
        None => make(text.to_owned(), None),
    }
}

/// Go's forms of a boolean that people write.
fn boolean(text: &str) -> Result<bool, CliError> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(CliError::usage(format!("--filter dangling={text:?} is neither true nor false"))),
    }
}

fn has(map: &BTreeMap<String, String>, key: &str, value: Option<&String>) -> bool {
    let found = map.get(key);
    found.is_some() && (value.is_none() || found == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(texts: &[&str]) -> bool {
        let record = serde_json::json!({"format": 1, "name": "data-1", "created": "2026-01-01T00:00:00Z",
            "labels": {"tier": "db"}, "options": {"size": "1g"}, "bytes": 1 << 30});
        let volume = serde_json::from_value(record).expect("a volume");
        let texts: Vec<_> = texts.iter().map(ToString::to_string).collect();
        Filters::parse(&texts).expect("filters").accept(&volume, 0)
    }

    #[test]
    fn filters_match_as_podmans_do() {
        for yes in [
            "name=data",
            "name=^data-[0-9]$",
            "name=ata",
            "label=tier",
            "label=tier=db",
            "label!=other",
            "opt=size",
            "opt=size=1g",
            "dangling=true",
            "dangling=1",
            "driver=local",
            "scope=local",
            "until=2026-02-01",
        ] {
            assert!(accepted(&[yes]), "{yes}");
        }
        for no in [
            "name=db",
            "label=other",
            "label=tier=web",
            "label!=tier",
            "opt=type",
            "dangling=false",
            "driver=loc",
            "scope=x",
            "until=2025-01-01",
        ] {
            assert!(!accepted(&[no]), "{no}");
        }
        assert!(accepted(&["name=nope", "name=data"]));
        assert!(!accepted(&["name=data", "dangling=false"]));
        assert!(!accepted(&["label=tier", "label=other"]));
    }

    #[test]
    fn invalid_filters_are_refused() {
        for bad in ["foo=x", "name", "name=[", "dangling=maybe", "until=soon", "since=x"] {
            assert!(Filters::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
