//! How a command selects its machines, and runs an action on several at once.

use std::fs;
use std::path::{Path, PathBuf};

use mimeo_engine::{Found, Selector};

use crate::backend::{FindFailure, Host};
use crate::commands::filter::Filters;
use crate::error::CliError;
use crate::output;

/// One machine, by name, id or its supervisor's process id.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Machine {
    /// The machine: its name, its id or the start of its id
    #[arg(value_name = "MACHINE", required_unless_present_any = ["pid", "latest"])]
    pub(crate) name: Option<String>,
    /// Select the machine by the process id of its supervisor
    #[arg(long, conflicts_with = "name")]
    pub(crate) pid: Option<u32>,
    /// Select the machine that was created last
    #[arg(short, long, conflicts_with_all = ["name", "pid"])]
    pub(crate) latest: bool,
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
    pub(crate) async fn find(&self, host: &Host) -> Result<Found, CliError> {
        if self.latest {
            return latest(host).await;
        }
        Ok(host.find(&self.selector()?).await?)
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
    /// Select the machine that was created last
    #[arg(short, long, conflicts_with_all = ["names", "pid", "cidfile"])]
    pub(crate) latest: bool,
    /// Select the machine whose id is in this file, as written by `run --cidfile`; can be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Vec<PathBuf>,
}

impl Machines {
    /// Looks up the machines that the arguments select; an error if they select none.
    pub(crate) async fn find(&self, host: &Host) -> Result<Vec<Lookup>, CliError> {
        if self.latest {
            return Ok(vec![found_by_name(latest(host).await?)]);
        }
        Ok(find_each(host, self.selectors()?).await)
    }

    /// As `find`; with `all` or filters, the candidates that pass the filters.
    pub(crate) async fn find_matching(
        &self,
        host: &Host,
        all: bool,
        filters: &[String],
        is_candidate: impl Fn(&Found) -> bool,
    ) -> Result<Vec<Lookup>, CliError> {
        if !all && filters.is_empty() {
            return self.find(host).await;
        }
        if !self.is_empty() {
            return Err(CliError::usage("cannot select machines both by --all or --filter and by name"));
        }
        let filters = Filters::parse(filters, host).await?;
        find_all(host, |found| is_candidate(found) && filters.accept(&found.record)).await
    }

    /// The selectors that the arguments give; an error if there are none.
    fn selectors(&self) -> Result<Vec<Selector>, CliError> {
        let words = self.names.iter().cloned().map(Selector::NameOrId);
        let pids = self.pid.iter().copied().map(Selector::Pid);
        let files = self.cidfile.iter().map(|file| read_id(file));
        let selectors = words.chain(pids).map(Ok).chain(files).collect::<Result<Vec<_>, _>>()?;
        if selectors.is_empty() {
            return Err(CliError::usage("no machine selected: give at least one name, or --pid"));
        }
        Ok(selectors)
    }

    /// Whether the arguments select no machine.
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.pid.is_empty() && self.cidfile.is_empty() && !self.latest
    }
}

fn read_id(file: &Path) -> Result<Selector, CliError> {
    let text = fs::read_to_string(file)
        .map_err(|source| CliError::io(format!("read --cidfile {}", file.display()), source))?;
    match text.trim() {
        "" => Err(CliError::usage(format!("--cidfile {} is empty", file.display()))),
        id => Ok(Selector::NameOrId(id.to_owned())),
    }
}

/// The machine that was created last. A clone that waits in a pool is not in use yet.
pub(crate) async fn latest(host: &Host) -> Result<Found, CliError> {
    let found = host.machines().await?.into_iter().filter(|found| !found.record.waiting);
    let latest = found.max_by_key(|found| found.record.times.created);
    latest.ok_or_else(|| CliError::usage("there is no machine: --latest selects nothing"))
}

fn found_by_name(found: Found) -> Lookup {
    (Selector::NameOrId(found.record.name.to_string()), Ok(found))
}

/// A selector and the machine that it found.
pub(crate) type Lookup = (Selector, Result<Found, FindFailure>);

/// Looks up each selector.
async fn find_each(host: &Host, selectors: Vec<Selector>) -> Vec<Lookup> {
    let mut lookups = Vec::new();
    for selector in selectors {
        let found = host.find(&selector).await;
        lookups.push((selector, found));
    }
    lookups
}

/// All machines that match `predicate`, as if each had been named.
async fn find_all(host: &Host, predicate: impl Fn(&Found) -> bool) -> Result<Vec<Lookup>, CliError> {
    let found = host.machines().await?.into_iter().filter(predicate);
    Ok(found.map(found_by_name).collect())
}

/// Runs `act` on all machines concurrently, and prints in their order the text
/// that it returns, or else the selector. An error is printed and does not stop
/// the others. The exit code is podman's: 1, which means that there is no such
/// machine, takes precedence over others.
pub(crate) async fn for_each<A, R>(host: &Host, machines: Vec<Lookup>, act: A) -> i32
where
    A: Fn(Host, Result<Found, FindFailure>) -> R,
    R: Future<Output = Result<Option<String>, CliError>> + Send + 'static,
{
    let start = |(selector, found)| (selector, tokio::spawn(act(host.clone(), found)));
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
