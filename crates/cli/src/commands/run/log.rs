//! Parses `--log-driver` and `--log-opt`.

use mimeo_engine::log::{LogConfig, LogDriver};

use crate::error::CliError;
use crate::values::size;

/// The smallest size at which a log is rotated: a rotation for every other line would slow the container down.
const MIN_SIZE: u64 = 1024;
/// The largest number of files.
const MAX_FILES: u32 = 1000;

/// The log that the arguments describe.
pub(super) fn config(name: &str, options: &[String]) -> Result<LogConfig, CliError> {
    let mut config = LogConfig { driver: driver(name)?, ..LogConfig::default() };
    for option in options {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "max-size" => config.max_bytes = max_size(value)?,
            "max-file" => config.max_files = max_files(value)?,
            _ => {
                return Err(CliError::usage(format!(
                    "--log-opt {option:?} is not supported: give max-size=SIZE or max-file=N"
                )));
            }
        }
    }
    if config.driver == LogDriver::None && !options.is_empty() {
        return Err(CliError::usage("--log-opt has no effect with --log-driver none: omit it"));
    }
    Ok(config)
}

/// podman takes json-file as another name of k8s-file.
fn driver(name: &str) -> Result<LogDriver, CliError> {
    match name {
        "k8s-file" | "json-file" => Ok(LogDriver::K8sFile),
        "none" => Ok(LogDriver::None),
        _ => Err(CliError::usage(format!("--log-driver {name:?} is not supported: give k8s-file or none"))),
    }
}

fn max_size(text: &str) -> Result<Option<u64>, CliError> {
    if text == "-1" {
        return Ok(None);
    }
    let bytes = size(text).map_err(|error| CliError::usage(format!("--log-opt max-size: {error}")))?;
    if bytes < MIN_SIZE {
        return Err(CliError::usage(format!(
            "--log-opt max-size={text} is too small: give at least 1k, or -1 for no limit"
        )));
    }
    Ok(Some(bytes))
}

fn max_files(text: &str) -> Result<u32, CliError> {
    let files = text.parse().ok().filter(|files| (1..=MAX_FILES).contains(files));
    files.ok_or_else(|| {
        CliError::usage(format!("--log-opt max-file={text} is not a number between 1 and {MAX_FILES}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, options: &[&str]) -> Result<LogConfig, CliError> {
        config(name, &options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_parsed() {
        let config = parse("json-file", &["max-size=2m", "max-file=3"]).expect("valid");
        assert_eq!(config, LogConfig { max_bytes: Some(2 << 20), max_files: 3, ..LogConfig::default() });
        assert_eq!(parse("k8s-file", &["max-size=-1"]).expect("valid").max_bytes, None);
        assert_eq!(parse("none", &[]).expect("valid").driver, LogDriver::None);
    }

    #[test]
    fn bad_options_are_refused() {
        for options in [
            ["max-size=x"],
            ["max-size="],
            ["max-size=0"],
            ["max-size=1000"],
            ["max-size=-2"],
            ["max-file=0"],
            ["max-file=1001"],
            ["max-file=x"],
            ["path=/tmp/log"],
            ["tag=x"],
            [""],
        ] {
            assert!(parse("k8s-file", &options).is_err(), "{options:?}");
        }
        for driver in ["journald", "passthrough", "K8S-FILE", ""] {
            assert!(parse(driver, &[]).is_err(), "{driver:?}");
        }
        assert!(parse("none", &["max-size=1m"]).is_err());
    }
}
