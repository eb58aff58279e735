//! `mimeo cp`: copies files between the host and machines, and between machines.

mod content;
mod destination;
mod local;
mod pipe;
mod remote;
mod rename;

use std::ffi::OsString;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use mimeo_engine::machine::MachineId;
use mimeo_engine::{Found, Selector, act};

use crate::backend::{Host, MachineFiles};
use crate::error::CliError;
use destination::{Kind, Name};
use remote::Remote;

/// Arguments of `mimeo cp`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo cp ./site web:/srv\n  mimeo cp web:/var/log/. ./logs\n  mimeo cp web:/etc - | tar -t"
)]
pub(crate) struct Args {
    /// Accepted for compatibility with podman: owners are not copied. In a machine, files belong to its
    /// user if that is a number, otherwise to root; on the host, to you
    #[arg(short, long, hide = true)]
    archive: bool,
    /// Source: a path, MACHINE:PATH, or - for a tar stream on standard input; DIR/. copies the contents of DIR
    #[arg(value_name = "FROM")]
    from: String,
    /// Destination: a path, MACHINE:PATH, or - for a tar stream on standard output
    #[arg(value_name = "TO")]
    to: String,
}

/// One side of a copy. The machine of a remote side is either found or opened.
enum Side<M> {
    Stream,
    Local(PathBuf),
    Remote(M),
}

/// A path in a machine that was found.
struct Address {
    machine: Found,
    path: String,
}

/// What to copy.
struct CopySource {
    kind: Kind,
    /// The last component of its path.
    name: OsString,
    /// Copy only the directory's contents: the path ends in `/.`.
    contents: bool,
}

/// Copies from one side to the other.
pub(crate) async fn run(host: &Host, args: &Args) -> Result<i32, CliError> {
    let mut opened = OpenMachines::default();
    let copied = open_and_copy(host, args, &mut opened).await;
    // All are closed, and the error of the copy takes precedence.
    let closed = opened.close().await;
    copied.and(closed).map(|()| 0)
}

async fn open_and_copy(host: &Host, args: &Args, opened: &mut OpenMachines) -> Result<(), CliError> {
    let (from, to) = (parse_side(host, &args.from).await?, parse_side(host, &args.to).await?);
    let is_piped = matches!(from, Side::Stream) || matches!(to, Side::Stream);
    let timeout = if is_piped { act::files::PIPE_TIMEOUT } else { act::files::TIMEOUT };
    // Machines are opened in the order of their ids, so that no two copies wait for each other.
    if let (Side::Remote(from), Side::Remote(to)) = (&from, &to)
        && to.machine.record.id < from.machine.record.id
    {
        opened.open(host, &to.machine, timeout).await?;
    }
    let from = opened.open_side(host, from, timeout).await?;
    let to = opened.open_side(host, to, timeout).await?;
    copy(&from, &to).await
}

/// The machines whose files are open. Both sides of a copy may be the same machine.
#[derive(Default)]
struct OpenMachines(Vec<Rc<OpenMachine>>);

/// A machine whose files are open.
struct OpenMachine {
    id: MachineId,
    name: String,
    files: Box<dyn MachineFiles>,
}

impl OpenMachines {
    async fn open(
        &mut self,
        host: &Host,
        found: &Found,
        timeout: Duration,
    ) -> Result<Rc<OpenMachine>, CliError> {
        let id = &found.record.id;
        if let Some(machine) = self.0.iter().find(|machine| machine.id == *id) {
            return Ok(machine.clone());
        }
        let files = host.files(found, timeout).await?;
        let machine = Rc::new(OpenMachine { id: id.clone(), name: found.record.name.to_string(), files });
        self.0.push(machine.clone());
        Ok(machine)
    }

    async fn open_side(
        &mut self,
        host: &Host,
        side: Side<Address>,
        timeout: Duration,
    ) -> Result<Side<Remote>, CliError> {
        Ok(match side {
            Side::Stream => Side::Stream,
            Side::Local(path) => Side::Local(path),
            Side::Remote(Address { machine, path }) => {
                let opened = self.open(host, &machine, timeout).await?;
                Side::Remote(Remote::new(opened, path, &machine.record.exec_defaults().user))
            }
        })
    }

    /// Closes all, and returns the first error. The sides of the copy must have been dropped.
    async fn close(self) -> Result<(), CliError> {
        let mut result = Ok(());
        for machine in self.0.into_iter().filter_map(Rc::into_inner) {
            result = result.and(machine.files.close().await);
        }
        result
    }
}

async fn copy(from: &Side<Remote>, to: &Side<Remote>) -> Result<(), CliError> {
    match (from, to) {
        (Side::Stream, Side::Remote(to)) => to.unpack_stdin().await?,
        (Side::Remote(from), Side::Stream) => {
            let tar = from.pack().await?;
            let tar = match from.name().filter(|_| tar.omits_name) {
                Some(name) => renamed(tar, Name::As(name), None),
                None => tar,
            };
            remote::write_to_stdout(tar).await?;
        }
        (Side::Local(from), Side::Remote(to)) => {
            let source = local::source(from)?;
            let (existing, path) = to.destination().await?;
            let destination = destination::resolve(&source, &path, existing)?;
            let (owner, name) = (to.owner, destination.name);
            let from = from.clone();
            let tar = pipe::spawn(move |writer| local::pack(&from, &name, owner, writer));
            to.unpack(&destination.directory, tar).await?;
        }
        (Side::Remote(from), Side::Local(to)) => {
            let source = from.source().await?;
            let destination = destination::resolve(&source, &to.to_string_lossy(), local::kind(to)?)?;
            let tar = renamed(from.pack().await?, destination.name, None);
            local::unpack(tar, PathBuf::from(destination.directory)).await?;
        }
        (Side::Remote(from), Side::Remote(to)) => {
            let source = from.source().await?;
            let (existing, path) = to.destination().await?;
            let destination = destination::resolve(&source, &path, existing)?;
            let tar = renamed(from.pack().await?, destination.name, Some(to.owner));
            to.unpack(&destination.directory, tar).await?;
        }
        (Side::Local(_) | Side::Stream, Side::Local(_) | Side::Stream) => {
            return Err(CliError::usage("the source or the destination must be MACHINE:PATH"));
        }
    }
    Ok(())
}

fn renamed(tar: pipe::Tar, name: Name, owner: Option<(u64, u64)>) -> pipe::Tar {
    pipe::spawn(move |writer| rename::rename(tar, &name, owner, writer))
}

/// Parses `-`, `MACHINE:PATH` or a path. A name before a colon is a machine's unless
/// there is no such machine and the entire text is an existing path.
async fn parse_side(host: &Host, text: &str) -> Result<Side<Address>, CliError> {
    if text == "-" {
        return Ok(Side::Stream);
    }
    let parts = text.split_once(':').filter(|(name, _)| !name.is_empty() && !name.contains(['/', '.']));
    let parts = match parts {
        Some(parts) => Some(parts),
        None => split_machine_name(host, text).await,
    };
    let Some((name, path)) = parts else {
        return Ok(Side::Local(PathBuf::from(text)));
    };
    let machine = match host.find(&Selector::NameOrId(name.to_owned())).await {
        Err(error) if error.is_none() && std::path::Path::new(text).exists() => {
            return Ok(Side::Local(PathBuf::from(text)));
        }
        found => found?,
    };
    let path = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{}/{path}", machine.record.exec_defaults().cwd),
    };
    Ok(Side::Remote(Address { machine, path }))
}

/// Splits `MACHINE:PATH` where the name contains dots: only if such a machine exists,
/// since a path can contain dots and colons, too.
async fn split_machine_name<'a>(host: &Host, text: &'a str) -> Option<(&'a str, &'a str)> {
    let (name, path) = text.split_once(':').filter(|(name, _)| !name.contains('/'))?;
    host.find(&Selector::NameOrId(name.to_owned())).await.ok().map(|_| (name, path))
}
