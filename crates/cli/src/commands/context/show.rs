//! `mimeo context show`: shows a context.

use serde_json::json;

use crate::backend::contexts::Contexts;
use crate::backend::target::LOCAL_CONTEXT;
use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo context show`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The context; by default the one in use
    name: Option<String>,
}

/// Prints the context as JSON, without its token.
pub(crate) fn run(args: &Args) -> Result<i32, CliError> {
    let contexts = Contexts::load()?;
    let name = args.name.clone().or_else(|| contexts.current.clone());
    let name = name.unwrap_or_else(|| LOCAL_CONTEXT.to_owned());
    if name == LOCAL_CONTEXT {
        output::json(&json!({ "Name": name }))?;
        return Ok(0);
    }
    let context = contexts.get(&name)?;
    output::json(&json!({
        "Name": name, "Host": context.host, "HasToken": context.token.is_some(), "Ca": context.ca,
    }))?;
    Ok(0)
}
