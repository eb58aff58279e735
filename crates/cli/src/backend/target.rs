//! Which host a command acts on: from its arguments, the environment and the stored contexts.

use std::fmt;
use std::path::PathBuf;

use super::contexts::{Context, Contexts};
use crate::error::CliError;

/// The variables of the environment that stand for the arguments.
pub(crate) const HOST_VARIABLE: &str = "MIMEO_HOST";
pub(crate) const TOKEN_VARIABLE: &str = "MIMEO_TOKEN";
pub(crate) const CONTEXT_VARIABLE: &str = "MIMEO_CONTEXT";
pub(crate) const CA_VARIABLE: &str = "MIMEO_TLS_CA";

/// The context that stands for this host.
pub(crate) const LOCAL_CONTEXT: &str = "local";

/// The arguments that select a manager.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TargetArgs {
    /// Act on a manager's host: http://HOST:PORT, https://HOST:PORT or unix:///PATH. Without --host and --context, on
    /// that of MIMEO_HOST, of MIMEO_CONTEXT, of the context in use, or on this host
    #[arg(long, global = true, value_name = "URL", conflicts_with = "context", help_heading = "Manager")]
    pub(crate) host: Option<String>,
    /// Token for the manager; better in MIMEO_TOKEN, since other users see arguments
    #[arg(long, global = true, value_name = "TOKEN", help_heading = "Manager")]
    pub(crate) token: Option<String>,
    /// Act on the host of this context (see `mimeo context`); local is this host
    #[arg(long, global = true, value_name = "NAME", help_heading = "Manager")]
    pub(crate) context: Option<String>,
    /// File with the certificates (PEM) of the authorities that are trusted for the manager, instead of the usual
    /// ones
    #[arg(long, global = true, value_name = "FILE", help_heading = "Manager")]
    pub(crate) tls_ca: Option<PathBuf>,
}

/// A manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: Address,
    pub(crate) token: Option<String>,
    /// The file with the certificates of its authorities.
    pub(crate) ca: Option<PathBuf>,
}

/// A manager's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// `http://…` or `https://…`.
    Web(String),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Whether the manager is on this host, whose files it sees.
    pub(crate) fn is_this_host(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    /// Parses an address.
    pub(crate) fn parse(text: &str) -> Result<Self, CliError> {
        let invalid = |reason: &str| {
            CliError::usage(format!(
                "cannot use the host {text:?}: {reason}: give http://HOST:PORT, https://HOST:PORT or unix:///PATH"
            ))
        };
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(PathBuf::from(path))),
            Some(("unix", _)) => Err(invalid("the path is not absolute")),
            Some(("http" | "https", rest)) => {
                let url = reqwest::Url::parse(text).map_err(|error| invalid(&error.to_string()))?;
                let is_plain =
                    matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
                if !is_plain || rest.contains('@') {
                    return Err(invalid("it has more than a host and a port"));
                }
                Ok(Self::Web(text.trim_end_matches('/').to_owned()))
            }
            Some(_) => Err(invalid("the scheme is unknown")),
            None => Err(invalid("the scheme is missing")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Web(url) => f.write_str(url),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// The manager that a command acts on; `None` for this host.
pub(crate) fn select(args: &TargetArgs) -> Result<Option<Target>, CliError> {
    let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    select_from(args, &variable, &Contexts::load)
}

fn select_from(
    args: &TargetArgs,
    variable: &dyn Fn(&str) -> Option<String>,
    load: &dyn Fn() -> Result<Contexts, CliError>,
) -> Result<Option<Target>, CliError> {
    let context = match (&args.host, &args.context) {
        (Some(host), _) => Some(Context::of_host(host)),
        (None, Some(name)) => named(name, load)?,
        (None, None) => match (variable(HOST_VARIABLE), variable(CONTEXT_VARIABLE)) {
            (Some(host), _) => Some(Context::of_host(&host)),
            (None, Some(name)) => named(&name, load)?,
            (None, None) => load()?.current()?,
        },
    };
    let Some(context) = context else { return refuse_unused(args) };
    let (env_ca, env_token) = (variable(CA_VARIABLE).map(PathBuf::from), variable(TOKEN_VARIABLE));
    // A context that an option names precedes the environment, which precedes any other one.
    let is_option = args.context.is_some();
    let ca = args.tls_ca.clone().or(if is_option { context.ca.or(env_ca) } else { env_ca.or(context.ca) });
    let token = args.token.clone();
    let token = token.or(if is_option { context.token.or(env_token) } else { env_token.or(context.token) });
    Ok(Some(Target { address: Address::parse(&context.host)?, token, ca }))
}

fn named(name: &str, load: &dyn Fn() -> Result<Contexts, CliError>) -> Result<Option<Context>, CliError> {
    if name == LOCAL_CONTEXT { Ok(None) } else { load()?.get(name).map(Some) }
}

/// Options for a manager that do nothing on this host are a mistake.
fn refuse_unused(args: &TargetArgs) -> Result<Option<Target>, CliError> {
    match (&args.token, &args.tls_ca) {
        (Some(_), _) => Err(CliError::usage("--token is for a manager: give its address with --host")),
        (_, Some(_)) => Err(CliError::usage("--tls-ca is for a manager: give its address with --host")),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contexts() -> Result<Contexts, CliError> {
        Contexts::parse(
            "current = \"lab\"\n[contexts.lab]\nhost = \"https://lab:1\"\ntoken = \"t\"\nca = \"/ca.pem\"\n\
             [contexts.box]\nhost = \"unix:///run/m.sock\"\n",
        )
    }

    fn selected(args: TargetArgs, variables: &[(&str, &str)]) -> String {
        let variable = |name: &str| {
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
        };
        match select_from(&args, &variable, &contexts) {
            Ok(Some(target)) => format!("{} {:?}", target.address, target.token),
            Ok(None) => "local".to_owned(),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn arguments_come_before_variables_and_these_before_the_context() {
        let host = |host: &str| TargetArgs { host: Some(host.to_owned()), ..TargetArgs::default() };
        let context = |name: &str| TargetArgs { context: Some(name.to_owned()), ..TargetArgs::default() };
        let none = TargetArgs::default;
        assert_eq!(selected(none(), &[]), "https://lab:1 Some(\"t\")");
        assert_eq!(selected(none(), &[("MIMEO_TOKEN", "u")]), "https://lab:1 Some(\"u\")");
        assert_eq!(selected(context("lab"), &[("MIMEO_TOKEN", "u")]), "https://lab:1 Some(\"t\")");
        assert_eq!(selected(context("box"), &[("MIMEO_TOKEN", "u")]), "unix:///run/m.sock Some(\"u\")");
        assert_eq!(selected(host("http://a:1"), &[("MIMEO_TOKEN", "u")]), "http://a:1 Some(\"u\")");
        let both = TargetArgs { token: Some("v".to_owned()), ..context("lab") };
        assert_eq!(selected(both, &[("MIMEO_TOKEN", "u")]), "https://lab:1 Some(\"v\")");
        let variables = [("MIMEO_CONTEXT", "lab"), ("MIMEO_TOKEN", "u")];
        assert_eq!(selected(none(), &variables), "https://lab:1 Some(\"u\")");
        assert_eq!(selected(none(), &[("MIMEO_HOST", "http://a:1")]), "http://a:1 None");
        assert_eq!(selected(none(), &[("MIMEO_CONTEXT", "box")]), "unix:///run/m.sock None");
        assert_eq!(selected(none(), &[("MIMEO_CONTEXT", "local")]), "local");
        assert_eq!(selected(context("local"), &[("MIMEO_HOST", "http://a:1")]), "local");
        assert_eq!(selected(context("box"), &[("MIMEO_HOST", "http://a:1")]), "unix:///run/m.sock None");
        assert_eq!(selected(host("http://b:2/"), &[("MIMEO_HOST", "http://a:1")]), "http://b:2 None");
        assert!(selected(context("nope"), &[]).contains("no context"));
        let token = TargetArgs { token: Some("t".to_owned()), ..context("local") };
        assert!(selected(token, &[]).contains("--token is for a manager"));
    }

    #[test]
    fn addresses_are_checked() {
        for good in
            ["http://127.0.0.1:18080", "https://mimeo.example", "http://[::1]:80/", "unix:///run/x.sock"]
        {
            assert!(Address::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "127.0.0.1:18080",
            "ftp://x",
            "unix://x.sock",
            "http://",
            "http://x/y",
            "http://u:p@x",
            "http://x?y=1",
            "http://x:y",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }
}
