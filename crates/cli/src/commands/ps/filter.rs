//! `--filter`: selects machines. Filters of the same kind are alternatives (OR);
//! different kinds, and all labels, have to match (AND).

use mimeo_engine::machine::{Record, RestartPolicy, should_start_on_boot};

use crate::error::CliError;
use crate::view;

/// One filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filter {
    Name(String),
    Id(String),
    Status(String),
    Health(String),
    Ancestor(String),
    Exited(i32),
    Label(String, Option<String>),
    RestartPolicy(String),
    StartOnBoot(bool),
}

impl Filter {
    /// Parses `KEY=VALUE`.
    pub(crate) fn parse(text: &str) -> Result<Self, CliError> {
        let invalid = |message: String| CliError::usage(message);
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| invalid(format!("{text:?} is an invalid filter: use KEY=VALUE")))?;
        let value = value.to_owned();
        match key {
            "name" => Ok(Self::Name(value)),
            "id" => Ok(Self::Id(value)),
            "status" => known_status(value),
            "health" => Ok(Self::Health(value)),
            "ancestor" => Ok(Self::Ancestor(value)),
            "exited" => {
                value.parse().map(Self::Exited).map_err(|_| invalid(format!("{value:?} is not an exit code")))
            }
            "label" => Ok(match value.split_once('=') {
                Some((key, value)) => Self::Label(key.to_owned(), Some(value.to_owned())),
                None => Self::Label(value, None),
            }),
            "restart-policy" => match value.parse::<RestartPolicy>() {
                Ok(policy) => Ok(Self::RestartPolicy(policy.name().to_owned())),
                Err(error) => Err(error.into()),
            },
            "should-start-on-boot" => match value.parse() {
                Ok(value) => Ok(Self::StartOnBoot(value)),
                Err(_) => Err(invalid(format!("{value:?} is neither true nor false"))),
            },
            _ => Err(invalid(format!("{key} is an invalid filter"))),
        }
    }

    fn accepts(&self, record: &Record, image: &str) -> bool {
        match self {
            Self::Name(part) => {
                record.name.as_str().contains(part.trim_start_matches('^').trim_end_matches('$'))
            }
            Self::Id(beginning) => record.id.as_str().starts_with(beginning),
            Self::Status(word) => view::state(record.phase()) == word,
            Self::Health(word) => match &record.health {
                Some(health) => health.status.to_string() == *word,
                None => word == "none",
            },
            Self::Ancestor(name) => {
                let id = record.image.as_ref().map_or("", |image| view::bare_id(&image.id));
                image.contains(name.as_str()) || id.starts_with(name)
            }
            Self::Exited(code) => record.exit().is_some_and(|exit| exit.code == *code),
            Self::RestartPolicy(name) => record.spec.restart.name() == name,
            Self::StartOnBoot(value) => should_start_on_boot(record) == *value,
            Self::Label(key, value) => {
                let found = record.spec.labels.get(key);
                found.is_some() && (value.is_none() || found == value.as_ref())
            }
        }
    }
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

/// Whether the filters include exited machines even without `--all`.
pub(crate) fn includes_exited(filters: &[Filter]) -> bool {
    filters.iter().any(|filter| matches!(filter, Filter::Status(_) | Filter::Exited(_)))
}

/// Whether the machine passes all kinds of filters.
pub(crate) fn accepts(filters: &[Filter], record: &Record, image: &str) -> bool {
    filters.iter().all(|filter| match filter {
        Filter::Label(..) => filter.accepts(record, image),
        _ => {
            let same = |other: &&Filter| std::mem::discriminant(*other) == std::mem::discriminant(filter);
            filters.iter().filter(same).any(|other| other.accepts(record, image))
        }
    })
}

#[cfg(test)]
mod tests {
    use mimeo_engine::{Exit, MachineId, MachineSpec, State};

    use super::*;

    fn accepted(texts: &[&str]) -> bool {
        let mut spec = MachineSpec::new("busybox");
        spec.labels = [("tier".to_owned(), "front".to_owned())].into();
        let mut record = Record::new(MachineId::random(), "web-1".parse().expect("a name"), spec);
        record.state = State::Exited(Exit { code: 3, out_of_memory: false, error: None });
        let filters: Vec<_> = texts.iter().map(|text| Filter::parse(text).expect("a filter")).collect();
        accepts(&filters, &record, "docker.io/library/busybox:latest")
    }

    #[test]
    fn filters_match_as_podmans_do() {
        for yes in ["name=web", "status=exited", "label=tier", "label=tier=front", "health=none", "exited=3"]
        {
            assert!(accepted(&[yes]), "{yes}");
        }
        for no in
            ["name=db", "status=running", "label=other", "label=tier=back", "health=healthy", "exited=0"]
        {
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
        for bad in ["foo=x", "name", "status=odd", "exited=x"] {
            assert!(Filter::parse(bad).is_err(), "{bad}");
        }
    }
}
