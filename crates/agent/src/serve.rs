//! Sessions with the host, one after the other, and the requests in them.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use mimeo_agent_protocol::link::{self, Accepted, Incoming, LinkError, Stream};
use mimeo_agent_protocol::message::{Failure, FailureKind, Reply, Request};

use crate::boot::Booted;
use crate::console::log;
use crate::failure::{Context, SystemError, chain, failure};
use crate::host_link::{Channel, HostLink, Reader, Writer};
use crate::machine::Machine;
use crate::modules::Modules;
use crate::{
    archive, attach, configure, exec, freeze, identify, inside, metrics, probe, processes, reset, shutdown,
    signal, start, stat, thaw, volume,
};

/// How the agent calls itself.
const NAME: &str = concat!("mimeo-agent ", env!("CARGO_PKG_VERSION"));
/// Serves one session after the other, for as long as there is a link.
pub(crate) async fn sessions(booted: Booted) -> Result<Infallible, SystemError> {
    let modules = Modules::new(booted.initramfs);
    let host = HostLink::find(&modules).await?;
    let machine = Machine::new(modules);
    machine.reaper.run().context("watch for ended processes")?;
    let mut channel = host.open(machine.frozen()).await?;
    loop {
        channel = match link::accept(channel.0, channel.1, NAME).await {
            Ok(session) => serve(&machine, session, &host).await?,
            Err(error) => {
                log(&format!("no session: {}", chain(&error)));
                host.open(machine.frozen()).await?
            }
        };
    }
}

/// Serves one session to its end, and gives back the channel for the next.
async fn serve(
    machine: &Arc<Machine>,
    session: Accepted<Reader, Writer>,
    host: &HostLink,
) -> Result<Channel, SystemError> {
    let Accepted { link, hello, mut incoming, channel } = session;
    log(&format!("session {} with {}", link.generation(), hello.name));
    machine.load_modules_once();
    requests(machine, &mut incoming).await;
    machine.session_over();
    let why = link.ended().cloned().unwrap_or(LinkError::Closed);
    match (why, channel.await) {
        // The next hello is in the reader already.
        (LinkError::Restarted, Ok(channel)) => Ok(channel),
        (why, old) => {
            // Nobody else may poll a port that a new session reads.
            drop(old);
            log(&format!("session over: {}", chain(&why)));
            host.open(machine.frozen()).await
        }
    }
}

async fn requests(machine: &Arc<Machine>, incoming: &mut Incoming) {
    while let Some((request, stream)) = incoming.next().await {
        tokio::spawn(answer(machine.clone(), request, stream));
    }
}

/// Answers one request. Whatever fails is told to the host, never dropped.
async fn answer(machine: Arc<Machine>, request: Bytes, stream: Stream) {
    let request = match serde_json::from_slice(&request) {
        Ok(request) => request,
        Err(error) => {
            let failed = failure(FailureKind::Invalid, format!("unreadable request: {error}"));
            return stream.sender.message(&Reply::Failed(failed));
        }
    };
    match request {
        Request::Volume(volume) => volume::serve(&machine, volume, stream).await,
        Request::Start(process) => start::serve(&machine, process, stream).await,
        Request::Exec(process) => exec::serve(&machine, process, stream).await,
        Request::ReadArchive { path, follow } => archive::read(&machine, path, follow, stream).await,
        Request::WriteArchive { directory } => archive::write(&machine, directory, stream).await,
        Request::Attach => attach::serve(&machine, stream),
        Request::Shutdown => shutdown::serve(&machine, stream).await,
        brief => stream.sender.message(&match once(&machine, brief).await {
            Ok(reply) => reply,
            Err(failed) => Reply::Failed(failed),
        }),
    }
}

/// The requests that have one answer.
async fn once(machine: &Arc<Machine>, request: Request) -> Result<Reply, Failure> {
    match request {
        Request::Configure(configure) => configure::act(machine, *configure).await,
        Request::Signal { signal } => signal::act(machine, signal),
        Request::Metrics => metrics::act(machine).await,
        Request::Processes => processes::act(machine).await,
        Request::Probe { url, timeout_ms } => probe::act(&url, timeout_ms).await,
        Request::Stat { path } => stat::act(machine, path).await,
        Request::SetClock { unix_nanos } => configure::set_clock(unix_nanos).map(|()| Reply::Done),
        Request::Prepare => freeze::prepare(machine).await,
        Request::Freeze => freeze::act(machine).await,
        Request::Reset => reset::act(machine).await,
        Request::Clock => Ok(Reply::Clock { nanos: thaw::monotonic() }),
        Request::Thaw { unix_nanos, advance_nanos, since } => {
            thaw::act(machine, unix_nanos, thaw::missed(advance_nanos, since, thaw::monotonic())).await
        }
        Request::Identify(identity) => identify::act(machine, *identity).await,
        Request::Volume(_)
        | Request::Start(_)
        | Request::Exec(_)
        | Request::ReadArchive { .. }
        | Request::WriteArchive { .. }
        | Request::Attach
        | Request::Shutdown => Err(inside::lost()),
    }
}
