//! One file per command.

pub(crate) mod attach;
pub(crate) mod commit;
pub(crate) mod completion;
pub(crate) mod confirm;
pub(crate) mod container;
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

use mimeo_engine::{Engine, Home, sweep};

use crate::arguments::{Arguments, Command, Podman};
use crate::error::CliError;
use crate::logging::LogLevel;
use crate::values;

/// The environment variable that limits the memory of all machines together, such as `8g`.
const MEMORY_VARIABLE: &str = "MIMEO_MEMORY";

/// Runs the command; returns the exit code.
pub(crate) async fn run(arguments: Arguments) -> Result<i32, CliError> {
    let level = arguments.log_level;
    match arguments.command {
        Command::Podman(command) | Command::Named(command) => podman(&engine()?, command, level).await,
        Command::Setup(args) => setup::run(&engine()?, &args).await,
        Command::Snapshot(verb) => snapshot::run(&engine()?, verb).await,
        Command::Fork(args) => fork::run(&engine()?, args).await,
        Command::Generate(verb) => generate::run(&engine()?, &verb),
        Command::Test(verb) => test::run(&engine()?, verb).await,
        Command::Completion(args) => completion::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Manager(args) => manager::run(&engine()?, args).await,
        // The command that started the supervisor has swept already.
        Command::Supervisor => supervisor::run(&engine_without_sweep()?).await,
    }
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

async fn podman(engine: &Engine, command: Podman, level: LogLevel) -> Result<i32, CliError> {
    match command {
        Podman::Run(args) => run::run(engine, *args.0, level).await,
        Podman::Create(args) => create::run(engine, *args.0).await,
        Podman::Start(args) => start::run(engine, args).await,
        Podman::Restart(args) => restart::run(engine, args).await,
        Podman::Attach(args) => attach::run(engine, args).await,
        Podman::Rename(args) => rename::run(engine, args).await,
        Podman::Update(args) => update::run(engine, args).await,
        Podman::Exec(args) => exec::run(engine, args).await,
        Podman::Ps(args) => ps::run(engine, &args),
        Podman::Inspect(args) => inspect::run(engine, &args),
        Podman::Logs(args) => logs::run(engine, &args),
        Podman::Stop(args) => stop::run(engine, args).await,
        Podman::Kill(args) => kill::run(engine, args).await,
        Podman::Wait(args) => wait::run(engine, args).await,
        Podman::Rm(args) => rm::run(engine, args).await,
        Podman::Pause(args) => pause::run(engine, args).await,
        Podman::Unpause(args) => unpause::run(engine, args).await,
        Podman::Port(args) => port::run(engine, &args),
        Podman::Top(args) => top::run(engine, &args).await,
        Podman::Stats(args) => stats::run(engine, &args).await,
        Podman::Cp(args) => cp::run(engine, &args).await,
        Podman::Diff(args) => diff::run(engine, &args).await,
        Podman::Prune(args) => prune::run(engine, &args).await,
        Podman::Commit(args) => commit::run(engine, args).await,
        Podman::Export(args) => export::run(engine, &args).await,
        Podman::Events(args) => events::run(engine, &args).await,
        Podman::Image(verb) => image::run(engine, verb).await,
        Podman::Pull(args) => image::run(engine, image::Verb::Pull(args)).await,
        Podman::Images(args) => image::run(engine, image::Verb::Ls(args)).await,
        Podman::Rmi(args) => image::run(engine, image::Verb::Rm(args)).await,
        Podman::Import(args) => image::run(engine, image::Verb::Import(args)).await,
        Podman::History(args) => image::run(engine, image::Verb::History(args)).await,
        Podman::Tag(args) => image::run(engine, image::Verb::Tag(args)).await,
        Podman::Untag(args) => image::run(engine, image::Verb::Untag(args)).await,
        Podman::Save(args) => image::run(engine, image::Verb::Save(args)).await,
        Podman::Load(args) => image::run(engine, image::Verb::Load(args)).await,
        Podman::Push(args) => image::run(engine, image::Verb::Push(args)).await,
        Podman::Search(args) => image::run(engine, image::Verb::Search(args)).await,
        Podman::Login(args) => login::run(args).await,
        Podman::Logout(args) => logout::run(&args),
        Podman::Version(args) => version::run(engine, &args),
        Podman::Container(verb) => match verb.into_short_form(engine) {
            Ok(command) => Box::pin(podman(engine, command, level)).await,
            Err(outcome) => outcome,
        },
        Podman::Healthcheck(verb) => healthcheck::run(engine, verb).await,
        Podman::Info(args) => system::info::run(engine, &args),
        Podman::System(verb) => system::run(engine, verb).await,
        Podman::Volume(verb) => volume::run(engine, verb).await,
    }
}
