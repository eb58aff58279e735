//! Arguments of the commands that talk to a registry.

use std::path::PathBuf;

use mimeo_engine::machine::RegistryAccess;
use mimeo_image::{Credentials, RegistryOptions};

use crate::error::CliError;

/// How the registry is accessed.
#[derive(Debug, clap::Args)]
pub(crate) struct RegistryArgs {
    /// Use plain HTTP for this registry, HOST[:PORT]; can be repeated
    #[arg(long, value_name = "HOST")]
    pub(crate) insecure_registry: Vec<String>,
    /// Require HTTPS and verify certificates; false accepts any certificate, and plain HTTP. Registries on
    /// this host are always accessed over plain HTTP
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) tls_verify: bool,
    /// The login file, instead of podman's and docker's
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
}

impl RegistryArgs {
    /// The options, with credentials that replace those of the login files.
    pub(crate) fn options(&self, credentials: Option<&str>) -> Result<RegistryOptions, CliError> {
        Ok(RegistryOptions {
            insecure_registries: self.insecure_registry.clone(),
            skip_tls_verification: !self.tls_verify,
            credentials: credentials.map(parse_credentials).transpose()?,
            auth_file: self.authfile.clone(),
        })
    }
}

impl RegistryArgs {
    /// How a machine's supervisor accesses the registry.
    pub(crate) fn for_machine(self) -> Result<RegistryAccess, CliError> {
        let absolute = |file: PathBuf| match std::fs::canonicalize(&file) {
            Ok(file) => Ok(file),
            Err(source) => Err(CliError::io(format!("read --authfile {}", file.display()), source)),
        };
        Ok(RegistryAccess {
            insecure_registries: self.insecure_registry,
            skip_tls_verification: !self.tls_verify,
            auth_file: self.authfile.map(absolute).transpose()?,
        })
    }
}

fn parse_credentials(text: &str) -> Result<Credentials, CliError> {
    let pair = text.split_once(':').filter(|(user, _)| !user.is_empty());
    // The text is not shown: it may be a password.
    let (user, password) = pair.ok_or_else(|| CliError::usage("--creds is not USER:PASSWORD"))?;
    Ok(Credentials { user: user.to_owned(), password: password.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_split_at_the_first_colon() {
        let parsed = parse_credentials("me:a:b").expect("credentials");
        assert_eq!((parsed.user.as_str(), parsed.password.as_str()), ("me", "a:b"));
        for bad in ["secret", ":secret", ""] {
            let error = parse_credentials(bad).expect_err("refused").to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
