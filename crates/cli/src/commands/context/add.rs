//! `mimeo context add`: adds a context, or replaces one.

use std::io::Read;
use std::path::PathBuf;

use crate::backend::contexts::{Context, Contexts};
use crate::backend::target::{Address, LOCAL_CONTEXT};
use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo context add`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo context add lab https://lab:18080 --token-stdin < token\n  mimeo context add own unix:///run/mimeo/manager.sock --use"
)]
pub(crate) struct Args {
    /// The context's name
    name: String,
    /// The manager's address: http://HOST:PORT, https://HOST:PORT or unix:///PATH
    url: String,
    /// Read the token for the manager from standard input
    #[arg(long)]
    token_stdin: bool,
    /// File with the certificates (PEM) of the authorities that are trusted for the manager
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Use the context for the commands that follow
    #[arg(long = "use")]
    use_it: bool,
}

/// Stores the context and prints its name.
pub(crate) fn run(args: Args) -> Result<i32, CliError> {
    check_name(&args.name)?;
    Address::parse(&args.url)?;
    let ca = args.ca.map(std::fs::canonicalize).transpose();
    let ca = ca.map_err(|source| CliError::io("find the file of --ca", source))?;
    let token = args.token_stdin.then(read_token).transpose()?;
    let mut contexts = Contexts::load()?;
    contexts.contexts.insert(args.name.clone(), Context { host: args.url, token, ca });
    if args.use_it {
        contexts.current = Some(args.name.clone());
    }
    contexts.store()?;
    output::line(&args.name)?;
    Ok(0)
}

fn check_name(name: &str) -> Result<(), CliError> {
    let is_name = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    match name {
        LOCAL_CONTEXT => {
            Err(CliError::usage(format!("the context {LOCAL_CONTEXT} is this host: choose another name")))
        }
        _ if !is_name => Err(CliError::usage(format!(
            "{name:?} is not a name of a context: use letters, digits, `_`, `.` and `-`"
        ))),
        _ => Ok(()),
    }
}

/// A token is a line.
fn read_token() -> Result<String, CliError> {
    let mut text = String::new();
    let read = std::io::stdin().take(64 * 1024).read_to_string(&mut text);
    read.map_err(|source| CliError::io("read the token on standard input", source))?;
    match text.trim() {
        "" => Err(CliError::usage("standard input has no token")),
        token if token.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            Err(CliError::usage("standard input has more than a token"))
        }
        token => Ok(token.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["lab", "a.b_c-1", "0"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "local", "-x", "a/b", "a b", "ü"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
