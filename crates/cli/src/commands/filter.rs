//! `--filter` of machines, for `ps` and commands that act on machines. Filters of the same kind are
//! alternatives (OR); different kinds, and all labels, have to match (AND).

use std::collections::HashMap;

use jiff::Timestamp;
use mimeo_engine::machine::{Record, RestartPolicy, should_start_on_boot};
use mimeo_engine::{FindError, Selector};
use regex::Regex;

use crate::backend::Host;
use crate::error::CliError;
use crate::values::timestamp;
use crate::view::{self, ImageNames};

/// podman's filters that concern what mimeo does not have, and the reason.
const REFUSED: [(&str, &str); 1] = [("pod", "mimeo has no pods: each machine is on its own")];

/// One filter.
#[derive(Debug, Clone)]
enum Filter {
    Name(Regex),
    Id(String),
    Status(String),
    Health(String),
    Ancestor(String),
    Exited(i32),
    Label(String, Option<String>),
    NotLabel(String, Option<String>),
    Volume(String),
    Network(String),
    Before(Timestamp),
    Since(Timestamp),
    Until(Timestamp),
    RestartPolicy(String),
    StartOnBoot(bool),
}

/// All filters of a command.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    filters: Vec<Filter>,
    images: ImageNames,
}

impl Filters {
    /// Parses each `KEY=VALUE`; machines that filters name are looked up.
    pub(crate) async fn parse(texts: &[String], host: &Host) -> Result<Self, CliError> {
        let mut named = HashMap::new();
        for name in texts.iter().filter_map(|text| named_machine(text)) {
            named.insert(name, host.find(&Selector::NameOrId(name.to_owned())).await?.record.times.created);
        }
        let created = |name: &str| named.get(name).copied().ok_or_else(|| unknown_machine(name));
        let filters = texts.iter().map(|text| Filter::parse(text, &created)).collect::<Result<_, _>>()?;
        Ok(Self { filters, images: ImageNames::load(host).await? })
    }

    /// Whether the filters include exited machines even without `--all`.
    pub(crate) fn include_exited(&self) -> bool {
        self.filters.iter().any(|filter| matches!(filter, Filter::Status(_) | Filter::Exited(_)))
    }

    /// Whether the machine passes all kinds of filters.
    pub(crate) fn accept(&self, record: &Record) -> bool {
        let image = self.images.name_for(record);
        let declared = self.images.declared_volumes(record);
        self.filters.iter().all(|filter| match filter {
            Filter::Label(..) | Filter::NotLabel(..) => filter.accepts(record, &image, &declared),
            _ => {
                let same = |other: &&Filter| std::mem::discriminant(*other) == std::mem::discriminant(filter);
                self.filters.iter().filter(same).any(|other| other.accepts(record, &image, &declared))
            }
        })
    }
}

impl Filter {
    fn parse(text: &str, created: &dyn Fn(&str) -> Result<Timestamp, CliError>) -> Result<Self, CliError> {
        let invalid = |message: String| CliError::usage(message);
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| invalid(format!("{text:?} is an invalid filter: use KEY=VALUE")))?;
        // `label!=KEY` has the key `label!`.
        let owned = value.to_owned();
        match key {
            "name" => pattern(value).map(Self::Name),
            "id" => Ok(Self::Id(owned)),
            "status" => known_status(owned),
            "health" => Ok(Self::Health(owned)),
            "ancestor" => Ok(Self::Ancestor(owned)),
            "exited" => {
                value.parse().map(Self::Exited).map_err(|_| invalid(format!("{value:?} is not an exit code")))
            }
            "label" => Ok(split_label(value, Self::Label)),
            "label!" => Ok(split_label(value, Self::NotLabel)),
            "volume" => Ok(Self::Volume(owned)),
            "network" => Ok(Self::Network(owned)),
            "before" => created(value).map(Self::Before),
            "since" => created(value).map(Self::Since),
            "until" => timestamp("--filter until", value, Timestamp::now()).map(Self::Until),
            "restart-policy" => match value.parse::<RestartPolicy>() {
                Ok(policy) => Ok(Self::RestartPolicy(policy.name().to_owned())),
                Err(error) => Err(error.into()),
            },
            "should-start-on-boot" => match value.parse() {
                Ok(value) => Ok(Self::StartOnBoot(value)),
                Err(_) => Err(invalid(format!("{value:?} is neither true nor false"))),
            },
            _ => Err(invalid(refusal(key))),
        }
    }

    fn accepts(&self, record: &Record, image: &str, declared: &[String]) -> bool {
        let created = record.times.created;
        match self {
            Self::Name(pattern) => pattern.is_match(record.name.as_str()),
            Self::Id(beginning) => record.id.as_str().starts_with(beginning),
            Self::Status(word) => view::state(record.phase()) == word,
            Self::Health(word) => health(record) == *word,
            Self::Ancestor(name) => is_ancestor(name, record, image),
            Self::Exited(code) => record.exit().is_some_and(|exit| exit.code == *code),
            Self::Label(key, value) => has_label(record, key, value.as_ref()),
            Self::NotLabel(key, value) => !has_label(record, key, value.as_ref()),
            Self::Volume(text) => has_volume(record, text) || declared.contains(text),
            Self::Network(mode) => record.network.as_ref().map(view::network_mode) == Some(mode),
            Self::Before(time) => created < *time,
            Self::Since(time) => created > *time,
            Self::Until(time) => created <= *time,
            Self::RestartPolicy(name) => record.spec.restart.name() == name,
            Self::StartOnBoot(value) => should_start_on_boot(record) == *value,
        }
    }
}

/// The machine that a filter names.
fn named_machine(text: &str) -> Option<&str> {
    text.strip_prefix("before=").or_else(|| text.strip_prefix("since="))
}

fn unknown_machine(name: &str) -> CliError {
    FindError::None(Selector::NameOrId(name.to_owned())).into()
}

fn pattern(text: &str) -> Result<Regex, CliError> {
    Regex::new(text)
        .map_err(|error| CliError::usage(format!("--filter name={text:?} is not a pattern: {error}")))
}

fn split_label(text: &str, make: impl Fn(String, Option<String>) -> Filter) -> Filter {
    match text.split_once('=') {
        Some((key, value)) => make(key.to_owned(), Some(value.to_owned())),
        None => make(text.to_owned(), None),
    }
}

fn refusal(key: &str) -> String {
    match REFUSED.iter().find(|(refused, _)| *refused == key) {
        Some((_, reason)) => format!("cannot filter by {key}: {reason}"),
        None => format!("{key} is an invalid filter"),
    }
}

fn health(record: &Record) -> String {
    record.health.as_ref().map_or_else(|| "none".to_owned(), |health| health.status.to_string())
}

fn is_ancestor(name: &str, record: &Record, image: &str) -> bool {
    let id = record.image.as_ref().map_or("", |image| view::bare_id(&image.id));
    image.contains(name) || id.starts_with(view::bare_id(name))
}

fn has_label(record: &Record, key: &str, value: Option<&String>) -> bool {
    let found = record.spec.labels.get(key);
    found.is_some() && (value.is_none() || found == value)
}

/// Whether the machine has a volume of this name, or one that is mounted from or at this path.
fn has_volume(record: &Record, text: &str) -> bool {
    let mut host = record.spec.volumes.iter();
    let mut volumes = record.spec.volume_mounts.iter();
    host.any(|volume| volume.guest == text || volume.host.to_str() == Some(text))
        || volumes.any(|mount| {
            mount.target == text || mount.name.as_ref().is_some_and(|name| name.as_str() == text)
        })
}

fn known_status(word: String) -> Result<Filter, CliError> {
    match word.as_str() {
        "created" | "running" | "paused" | "stopping" | "restarting" | "exited" => Ok(Filter::Status(word)),
        // podman's other names for these states.
        "stopped" => Ok(Filter::Status("exited".to_owned())),
        "configured" | "initialized" | "creating" => Ok(Filter::Status("created".to_owned())),
        _ => Err(CliError::usage(format!(
            "{word:?} is not a valid status: use created, running, paused, stopping, restarting or exited"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use mimeo_engine::machine::{VolumeMount, VolumeSpec};
    use mimeo_engine::{Exit, MachineId, MachineSpec, State};

    use super::*;

    fn parse(text: &str) -> Result<Filter, CliError> {
        Filter::parse(text, &|name| Err(CliError::usage(format!("no machine {name}"))))
    }

    fn accepted(texts: &[&str]) -> bool {
        let mut spec = MachineSpec::new("busybox");
        spec.labels = [("tier".to_owned(), "front".to_owned())].into();
        spec.volumes = vec![VolumeSpec { host: "/srv".into(), guest: "/data".to_owned(), read_only: false }];
        let name = Some("store".parse().expect("a name"));
        spec.volume_mounts =
            vec![VolumeMount { name, target: "/var/store".into(), ..VolumeMount::default() }];
        let mut record = Record::new(MachineId::random(), "web-1".parse().expect("a name"), spec);
        record.state = State::Exited(Exit { code: 3, out_of_memory: false, error: None });
        let filters = texts.iter().map(|text| parse(text).expect("a filter")).collect();
        Filters { filters, images: ImageNames::default() }.accept(&record)
    }

    #[test]
    fn filters_match_as_podmans_do() {
        for yes in [
            "name=web",
            "name=^web-1$",
            "name=^web-[0-9]+$",
            "status=exited",
            "label=tier",
            "label=tier=front",
            "label!=other",
            "label!=tier=back",
            "health=none",
            "exited=3",
            "ancestor=busybox",
            "volume=/data",
            "volume=/srv",
            "volume=store",
            "volume=/var/store",
            "until=2099-01-01T00:00:00Z",
        ] {
            assert!(accepted(&[yes]), "{yes}");
        }
        for no in [
            "name=db",
            "name=^eb",
            "name=^web$",
            "status=running",
            "label=other",
            "label=tier=back",
            "label!=tier",
            "health=healthy",
            "exited=0",
            "ancestor=alpine",
            "volume=/other",
            "volume=stor",
            "network=rootless",
            "until=1h",
        ] {
            assert!(!accepted(&[no]), "{no}");
        }
    }

    #[test]
    fn filters_of_one_kind_are_alternatives_and_kinds_add_up() {
        assert!(accepted(&["name=db", "name=web"]));
        assert!(!accepted(&["name=web", "status=running"]));
        assert!(!accepted(&["label=tier", "label=other"]));
        assert!(accepted(&[]));
    }

    #[test]
    fn invalid_filters_are_refused() {
        for bad in ["foo=x", "name", "name=[", "status=odd", "exited=x", "before=nope", "until=soon", "pod=x"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("pod=x").expect_err("refused").to_string().contains("mimeo has no pods"));
    }
}
