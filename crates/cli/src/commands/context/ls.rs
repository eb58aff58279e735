//! `mimeo context ls`: lists the contexts.

use serde_json::{Value, json};

use crate::backend::contexts::Contexts;
use crate::backend::target::LOCAL_CONTEXT;
use crate::error::CliError;
use crate::output;

const HEADINGS: [&str; 4] = ["NAME", "CURRENT", "HOST", "TOKEN"];

/// Arguments of `mimeo context ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print only names
    #[arg(short, long)]
    quiet: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the contexts, this host first. Tokens are not shown.
pub(crate) fn run(args: &Args) -> Result<i32, CliError> {
    let contexts = Contexts::load()?;
    if args.quiet {
        output::line(LOCAL_CONTEXT)?;
        contexts.contexts.keys().try_for_each(output::line)?;
        return Ok(0);
    }
    let rows = rows(&contexts);
    if args.json {
        let row = |[name, current, host, token]: &[String; 4]| -> Value {
            json!({"Name": name, "Current": !current.is_empty(), "Host": host, "HasToken": !token.is_empty()})
        };
        output::json(&rows.iter().map(row).collect::<Vec<_>>())?;
        return Ok(0);
    }
    output::table(&HEADINGS, &rows.into_iter().map(Vec::from).collect::<Vec<_>>())?;
    Ok(0)
}

fn rows(contexts: &Contexts) -> Vec<[String; 4]> {
    let current = contexts.current.as_deref().unwrap_or(LOCAL_CONTEXT);
    let mark = |name: &str| if name == current { "*" } else { "" }.to_owned();
    let local = [LOCAL_CONTEXT.to_owned(), mark(LOCAL_CONTEXT), "(this host)".to_owned(), String::new()];
    let others = contexts.contexts.iter().map(|(name, context)| {
        let token = if context.token.is_some() { "yes" } else { "" };
        [name.clone(), mark(name), context.host.clone(), token.to_owned()]
    });
    std::iter::once(local).chain(others).collect()
}
