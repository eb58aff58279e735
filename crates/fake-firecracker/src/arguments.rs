//! The command line.

/// Options with a value.
const VALUES: [&str; 15] = [
    "api-sock",
    "id",
    "seccomp-filter",
    "start-time-us",
    "start-time-cpu-us",
    "parent-cpu-time-us",
    "config-file",
    "metadata",
    "log-path",
    "level",
    "module",
    "metrics-path",
    "describe-snapshot",
    "http-api-max-payload-size",
    "mmds-size-limit",
];
/// Options without a value.
const FLAGS: [&str; 9] = [
    "no-seccomp",
    "no-api",
    "show-level",
    "show-log-origin",
    "boot-timer",
    "version",
    "snapshot-version",
    "enable-pci",
    "help",
];
const LEVELS: [&str; 7] = ["off", "error", "warn", "warning", "info", "debug", "trace"];

/// The parsed command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) api_sock: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) log_path: Option<String>,
    pub(crate) version: bool,
    pub(crate) snapshot_version: bool,
}

/// Why a command line is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArgumentError {
    #[error("Found argument '{0}' which wasn't expected, or isn't valid in this context.")]
    Unexpected(String),
    #[error("The argument '{0}' requires a value, but none was supplied.")]
    NoValue(String),
    #[error("The argument '{0}' was provided more than once.")]
    Twice(String),
    #[error("Invalid value for logger level: {0}. Possible values: [Error, Warning, Info, Debug]")]
    Level(String),
    #[error("Invalid instance ID: {0}")]
    Id(String),
    /// An option of Firecracker that the fake does not implement and the driver must not use.
    #[error("the fake does not support {0}")]
    Unsupported(String),
}

impl Arguments {
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, ArgumentError> {
        let mut arguments = arguments;
        let mut seen: Vec<String> = Vec::new();
        let mut parsed = Self::default();
        while let Some(argument) = arguments.next() {
            let Some(name) = argument.strip_prefix("--") else {
                return Err(ArgumentError::Unexpected(argument));
            };
            if seen.iter().any(|before| before == name) {
                return Err(ArgumentError::Twice(name.to_owned()));
            }
            seen.push(name.to_owned());
            if VALUES.contains(&name) {
                let value = arguments.next().ok_or_else(|| ArgumentError::NoValue(name.to_owned()))?;
                parsed.set_value(name, value)?;
            } else if FLAGS.contains(&name) {
                parsed.set_flag(name)?;
            } else {
                return Err(ArgumentError::Unexpected(name.to_owned()));
            }
        }
        Ok(parsed)
    }

    fn set_value(&mut self, name: &str, value: String) -> Result<(), ArgumentError> {
        match name {
            "api-sock" => self.api_sock = Some(value),
            "id" => self.id = Some(validate_id(value)?),
            "log-path" => self.log_path = Some(value),
            "level" if LEVELS.contains(&value.to_lowercase().as_str()) => {}
            "level" => return Err(ArgumentError::Level(value)),
            "start-time-us" | "start-time-cpu-us" | "parent-cpu-time-us" => {}
            other => return Err(ArgumentError::Unsupported(format!("--{other}"))),
        }
        Ok(())
    }

    fn set_flag(&mut self, name: &str) -> Result<(), ArgumentError> {
        match name {
            "version" => self.version = true,
            "snapshot-version" => self.snapshot_version = true,
            other => return Err(ArgumentError::Unsupported(format!("--{other}"))),
        }
        Ok(())
    }
}

pub(crate) fn validate_id(id: String) -> Result<String, ArgumentError> {
    let valid = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    if (1..=64).contains(&id.len()) && id.chars().all(valid) { Ok(id) } else { Err(ArgumentError::Id(id)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, ArgumentError> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn unknown_options_are_refused() {
        let parsed = parse("--api-sock s --id a-1 --log-path l --level Warning").expect("parsed");
        assert_eq!(parsed.api_sock.as_deref(), Some("s"));
        assert_eq!(parse("--nope"), Err(ArgumentError::Unexpected("nope".into())));
        assert_eq!(parse("--id"), Err(ArgumentError::NoValue("id".into())));
        assert_eq!(parse("--id a --id b"), Err(ArgumentError::Twice("id".into())));
        assert_eq!(parse("--id a_b"), Err(ArgumentError::Id("a_b".into())));
        assert_eq!(parse("--no-seccomp"), Err(ArgumentError::Unsupported("--no-seccomp".into())));
    }
}
