//! `mimeo man`: manual pages of all commands.

use std::fs;
use std::path::PathBuf;

use clap::CommandFactory;
use clap_mangen::{Man, generate_to};

use crate::arguments::Arguments;
use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo man`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to put all pages; without it the first is printed
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Writes the pages, or prints the first.
pub(crate) fn run(args: &Args) -> Result<i32, CliError> {
    let Some(directory) = &args.directory else {
        let mut page = Vec::new();
        Man::new(Arguments::command())
            .render(&mut page)
            .map_err(|source| CliError::io("write the page", source))?;
        output::bytes(&page)?;
        return Ok(0);
    };
    let failed = |source| CliError::io(format!("write manual pages to {}", directory.display()), source);
    fs::create_dir_all(directory).map_err(failed)?;
    generate_to(Arguments::command(), directory).map_err(failed)?;
    Ok(0)
}
