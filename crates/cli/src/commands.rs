//! One file per command.

pub(crate) mod exec;
pub(crate) mod monitor;
pub(crate) mod run;
pub(crate) mod select;
pub(crate) mod setup;

use mimeo_engine::{Engine, Home, sweep};

use crate::arguments::{Arguments, Command, Podman};
use crate::error::CliError;

/// Does what the arguments say; the exit code.
pub(crate) async fn run(arguments: Arguments) -> Result<i32, CliError> {
    let engine = Engine::new(Home::from_environment()?);
    for swept in sweep(&engine)? {
        tracing::warn!(component = "sweep", machine = %swept.name, "its monitor was gone: cleared away");
    }
    match arguments.command {
        Command::Run(args) | Command::Podman(Podman::Run(args)) => run::run(&engine, args).await,
        Command::Exec(args) | Command::Podman(Podman::Exec(args)) => exec::run(&engine, args).await,
        Command::Setup(args) => setup::run(&engine, &args),
        Command::Monitor => monitor::run(&engine).await,
    }
}
