//! How a command selects its machines, and runs an action on several at once.

use mimeo_engine::{Engine, FindError, Found, Selector};

use crate::error::CliError;
use crate::output;

/// One machine, by name, id or its supervisor's process id.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Machine {
    /// The machine: its name, its id or the start of its id
    #[arg(value_name = "MACHINE", required_unless_present = "pid")]
    pub(crate) name: Option<String>,
    /// Select the machine by the process id of its supervisor
    #[arg(long, conflicts_with = "name")]
    pub(crate) pid: Option<u32>,
}

impl Machine {
    /// The selector that the arguments give.
    pub(crate) fn selector(&self) -> Result<Selector, CliError> {
        match (&self.name, self.pid) {
            (_, Some(pid)) => Ok(Selector::Pid(pid)),
            (Some(name), None) => Ok(Selector::NameOrId(name.clone())),
            (None, None) => Err(CliError::usage("no machine selected: give its name, or --pid")),
        }
    }

    /// Finds the machine.
    pub(crate) fn find(&self, engine: &Engine) -> Result<Found, CliError> {
        Ok(engine.registry().find(&self.selector()?)?)
    }
}

/// Several machines, by name, id or their supervisors' process ids.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Machines {
    /// The machines: names, ids or starts of ids
    #[arg(value_name = "MACHINE")]
    pub(crate) names: Vec<String>,
    /// Select a machine by the process id of its supervisor; can be repeated
    #[arg(long)]
    pub(crate) pid: Vec<u32>,
}

impl Machines {
    /// The selectors that the arguments give; an error if there are none.
    pub(crate) fn selectors(&self) -> Result<Vec<Selector>, CliError> {
        let words = self.names.iter().cloned().map(Selector::NameOrId);
        let selectors: Vec<_> = words.chain(self.pid.iter().copied().map(Selector::Pid)).collect();
        if selectors.is_empty() {
            return Err(CliError::usage("no machine selected: give at least one name, or --pid"));
        }
        Ok(selectors)
    }

    /// Whether the arguments select no machine.
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.pid.is_empty()
    }
}

/// A selector and the machine that it found.
pub(crate) type Lookup = (Selector, Result<Found, FindError>);

/// Looks up each selector.
pub(crate) fn find_each(engine: &Engine, selectors: Vec<Selector>) -> Vec<Lookup> {
    let registry = engine.registry();
    selectors.into_iter().map(|selector| (selector.clone(), registry.find(&selector))).collect()
}

/// All machines that match `predicate`, as if each had been named.
pub(crate) fn find_all(engine: &Engine, predicate: impl Fn(&Found) -> bool) -> Result<Vec<Lookup>, CliError> {
    let found = engine.registry().list()?.into_iter().filter(predicate);
    Ok(found.map(|found| (Selector::NameOrId(found.record.name.to_string()), Ok(found))).collect())
}

/// Runs `act` on all machines concurrently, and prints in their order the text
/// that it returns, or else the selector. An error is printed and does not stop
/// the others. The exit code is podman's: 1, which means that there is no such
/// machine, takes precedence over others.
pub(crate) async fn for_each<A, R>(engine: &Engine, machines: Vec<Lookup>, act: A) -> i32
where
    A: Fn(Engine, Result<Found, FindError>) -> R,
    R: Future<Output = Result<Option<String>, CliError>> + Send + 'static,
{
    let start = |(selector, found)| (selector, tokio::spawn(act(engine.clone(), found)));
    let started: Vec<(Selector, _)> = machines.into_iter().map(start).collect();
    let mut code = 0;
    for (selector, task) in started {
        let outcome = task.await.unwrap_or_else(|panic| Err(CliError::from(panic)));
        let printed = match outcome {
            Ok(Some(text)) => output::line(text),
            Ok(None) => output::line(as_typed(&selector)),
            Err(error) => Err(error),
        };
        if let Err(error) = printed {
            output::error(&error);
            code = if code == 1 { 1 } else { error.exit_code() };
        }
    }
    code
}

fn as_typed(selector: &Selector) -> String {
    match selector {
        Selector::NameOrId(word) => word.clone(),
        Selector::Pid(pid) => pid.to_string(),
    }
}
