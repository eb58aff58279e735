//! One file per command.

pub(crate) mod attach;
pub(crate) mod base;
pub(crate) mod commit;
pub(crate) mod completion;
pub(crate) mod confirm;
pub(crate) mod container;
pub(crate) mod context;
pub(crate) mod cp;
pub(crate) mod create;
pub(crate) mod diff;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod export;
pub(crate) mod filter;
pub(crate) mod fork;
pub(crate) mod generate;
pub(crate) mod guest_data;
pub(crate) mod healthcheck;
pub(crate) mod image;
pub(crate) mod inspect;
pub(crate) mod kill;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod manager;
pub(crate) mod pause;
pub(crate) mod port;
pub(crate) mod prune;
pub(crate) mod ps;
pub(crate) mod rename;
pub(crate) mod restart;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod sandbox;
pub(crate) mod select;
pub(crate) mod setup;
pub(crate) mod snapshot;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod stop;
pub(crate) mod supervisor;
pub(crate) mod system;
pub(crate) mod test;
pub(crate) mod top;
pub(crate) mod unpause;
pub(crate) mod update;
pub(crate) mod version;
pub(crate) mod volume;
pub(crate) mod wait;

use std::sync::Arc;

use mimeo_engine::{Engine, Home, sweep};

use crate::arguments::{Arguments, Command, Podman};
use crate::backend::target::{self, TargetArgs};
use crate::backend::{Host, LocalBackend, RemoteBackend, local};
use crate::error::CliError;
use crate::logging::LogLevel;
use crate::values;

/// The environment variable that limits the memory of all machines together, such as `8g`.
const MEMORY_VARIABLE: &str = "MIMEO_MEMORY";

/// Runs the command; returns the exit code.
pub(crate) async fn run(arguments: Arguments) -> Result<i32, CliError> {
    let (level, target) = (arguments.log_level, arguments.target);
    let host = || host(&target);
    match arguments.command {
        Command::Podman(command) | Command::Named(command) => podman(&host()?, command, level).await,
        Command::Setup(args) => setup::run(local(&host()?, "set up")?, &args).await,
        Command::Snapshot(verb) => snapshot::run(&host()?, verb).await,
        Command::Sandbox(verb) => sandbox::run(&host()?, verb, level).await,
        Command::Fork(args) => fork::run(&host()?, args).await,
        Command::Generate(verb) => generate::run(local(&host()?, "generate configuration")?, &verb),
        Command::Test(verb) => test::run(local(&host()?, "test")?, verb).await,
        Command::Base(verb) => base::run(local(&host()?, "manage bases")?, verb).await,
        Command::Context(verb) => context::run(verb),
        Command::Completion(args) => completion::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Manager(args) => manager::run(&engine()?, args).await,
        // The command that started the supervisor has swept already.
        Command::Supervisor => supervisor::run(&engine_without_sweep()?).await,
    }
}

/// Where the command acts.
fn host(args: &TargetArgs) -> Result<Host, CliError> {
    Ok(match target::select(args)? {
        None => Arc::new(LocalBackend::new(engine()?)),
        Some(target) => Arc::new(RemoteBackend::new(&target)?),
    })
}

/// Opens the engine and removes what dead supervisors left behind.
fn engine() -> Result<Engine, CliError> {
    let engine = engine_without_sweep()?;
    for swept in sweep(&engine)? {
        tracing::warn!(component = "sweep", machine = %swept.name, "the supervisor died: removed what it left behind");
    }
    Ok(engine)
}

fn engine_without_sweep() -> Result<Engine, CliError> {
    let budget = std::env::var(MEMORY_VARIABLE).ok().filter(|text| !text.is_empty());
    let budget = budget.map(|text| values::size(&text)).transpose();
    let budget = budget.map_err(|error| CliError::usage(format!("{MEMORY_VARIABLE}: {error}")))?;
    Ok(Engine::new(Home::from_environment()?).with_memory_budget(budget))
}

async fn podman(host: &Host, command: Podman, level: LogLevel) -> Result<i32, CliError> {
    match command {
        Podman::Run(args) => run::run(host, *args.0, level).await,
        Podman::Create(args) => create::run(host, *args.0).await,
        Podman::Start(args) => start::run(host, args).await,
        Podman::Restart(args) => restart::run(host, args).await,
        Podman::Attach(args) => attach::run(host, args).await,
        Podman::Rename(args) => rename::run(host, args).await,
        Podman::Update(args) => update::run(host, args).await,
        Podman::Exec(args) => exec::run(host, args).await,
        Podman::Ps(args) => ps::run(host, &args).await,
        Podman::Inspect(args) => inspect::run(host, &args).await,
        Podman::Logs(args) => logs::run(host, &args).await,
        Podman::Stop(args) => stop::run(host, args).await,
        Podman::Kill(args) => kill::run(host, args).await,
        Podman::Wait(args) => wait::run(host, args).await,
        Podman::Rm(args) => rm::run(host, args).await,
        Podman::Pause(args) => pause::run(host, args).await,
        Podman::Unpause(args) => unpause::run(host, args).await,
        Podman::Port(args) => port::run(host, &args).await,
        Podman::Top(args) => top::run(host, &args).await,
        Podman::Stats(args) => stats::run(host, &args).await,
        Podman::Cp(args) => cp::run(host, &args).await,
        Podman::Diff(args) => diff::run(host, &args).await,
        Podman::Prune(args) => prune::run(host, &args).await,
        Podman::Commit(args) => commit::run(host, args).await,
        Podman::Export(args) => export::run(host, &args).await,
        Podman::Events(args) => events::run(host, &args).await,
        Podman::Image(verb) => image::run(host, verb).await,
        Podman::Pull(args) => image::run(host, image::Verb::Pull(args)).await,
        Podman::Images(args) => image::run(host, image::Verb::Ls(args)).await,
        Podman::Rmi(args) => image::run(host, image::Verb::Rm(args)).await,
        Podman::Import(args) => image::run(host, image::Verb::Import(args)).await,
        Podman::History(args) => image::run(host, image::Verb::History(args)).await,
        Podman::Tag(args) => image::run(host, image::Verb::Tag(args)).await,
        Podman::Untag(args) => image::run(host, image::Verb::Untag(args)).await,
        Podman::Save(args) => image::run(host, image::Verb::Save(args)).await,
        Podman::Load(args) => image::run(host, image::Verb::Load(args)).await,
        Podman::Push(args) => image::run(host, image::Verb::Push(args)).await,
        Podman::Search(args) => image::run(host, image::Verb::Search(args)).await,
        Podman::Login(args) => login::run(args).await,
        Podman::Logout(args) => logout::run(&args),
        Podman::Version(args) => version::run(host, &args).await,
        Podman::Container(verb) => match verb.into_short_form(host).await {
            Ok(command) => Box::pin(podman(host, command, level)).await,
            Err(outcome) => outcome,
        },
        Podman::Healthcheck(verb) => healthcheck::run(host, verb).await,
        Podman::Info(args) => system::info::run(host, &args).await,
        Podman::System(verb) => system::run(host, verb).await,
        Podman::Volume(verb) => volume::run(local(host, "manage volumes")?, verb).await,
    }
}
