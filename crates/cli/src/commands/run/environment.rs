//! Options of `run` that set the container's environment from elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use mimeo_engine::MachineSpec;

use crate::error::CliError;
use crate::values::host_variables;

/// The variables that name a proxy, which podman copies from its own environment.
const PROXY_VARIABLES: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
];

/// Where variables come from, besides `--env` and `--env-file`.
#[derive(Debug, clap::Args)]
pub(super) struct EnvironmentOptions {
    /// Set all variables of this environment in the container
    #[arg(long)]
    env_host: bool,
    /// Set a variable whose value refers to the image's variables, such as PATH=${PATH}:/opt/bin; can be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    env_merge: Vec<String>,
    /// Do not set this variable of the image; can be repeated
    #[arg(long, value_name = "NAME")]
    unsetenv: Vec<String>,
    /// Set no variables of the image
    #[arg(long)]
    unsetenv_all: bool,
    /// Copy the variables that name a proxy, such as http_proxy, from this environment
    #[arg(
        long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = clap::ArgAction::Set
    )]
    http_proxy: bool,
}

impl EnvironmentOptions {
    /// Applies the options; variables that are set already keep their values.
    pub(super) fn apply(self, spec: &mut MachineSpec) -> Result<(), CliError> {
        let is_copied = |name: &str| self.env_host || self.http_proxy && PROXY_VARIABLES.contains(&name);
        for (name, value) in host_variables().filter(|(name, _)| is_copied(name)) {
            spec.env.entry(name).or_insert(value);
        }
        spec.env_merge =
            self.env_merge.iter().map(|text| merged(text)).collect::<Result<BTreeMap<_, _>, _>>()?;
        spec.unset_env = self.unsetenv.into_iter().collect::<BTreeSet<_>>();
        spec.unset_all_env = self.unsetenv_all;
        Ok(())
    }
}

fn merged(text: &str) -> Result<(String, String), CliError> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(CliError::usage(format!("--env-merge {text:?} is not NAME=VALUE"))),
    }
}
