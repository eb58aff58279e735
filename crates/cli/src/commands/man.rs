//! `mimeo man`: writes manual pages for all commands.

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
    /// Directory for the pages; without it, mimeo's main page is printed
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Writes all pages to a directory, or prints the main page.
pub(crate) fn run(args: &Args) -> Result<i32, CliError> {
    let Some(directory) = &args.directory else {
        let mut page = Vec::new();
        Man::new(Arguments::command())
            .render(&mut page)
            .map_err(|source| CliError::io("write the manual page", source))?;
        output::bytes(&page)?;
        return Ok(0);
    };
    let failed = |source| CliError::io(format!("write manual pages to {}", directory.display()), source);
    fs::create_dir_all(directory).map_err(failed)?;
    generate_to(Arguments::command(), directory).map_err(failed)?;
    Ok(0)
}
