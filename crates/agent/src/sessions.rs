//! Serves the host's sessions, one after the other, and their requests.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use mimeo_agent_protocol::link::{self, Accepted, Incoming, LinkError, Stream};
use mimeo_agent_protocol::message::{Failure, FailureKind, Reply, Request};

use crate::archive::PackOptions;
use crate::boot::Booted;
use crate::console::log;
use crate::failure::{Context, SystemError, chain, failure};
use crate::host_link::{Channel, HostLink, Reader, Writer};
use crate::machine::Machine;
use crate::modules::Modules;
use crate::pid_one::PidOne;
use crate::{
    archive, attach, blocking, configure, disk_volume, exec, files, freeze, identify, metrics, probe,
    processes, reset, shutdown, signal, start, stat, thaw, volume,
};

/// The agent's name in its hello.
const HELLO_NAME: &str = concat!("mimeo-agent ", env!("CARGO_PKG_VERSION"));

/// Serves one session after the other, for as long as there is a link.
pub(crate) async fn serve_all(booted: Booted, pid_one: PidOne) -> Result<Infallible, SystemError> {
    let modules = Modules::new(booted.initramfs);
    let host = HostLink::find(&modules).await?;
    let machine = Machine::new(modules, pid_one);
    machine.reaper.run().context("watch for ended processes")?;
    let mut channel = host.open(machine.frozen_watch()).await?;
    loop {
        channel = match link::accept(channel.0, channel.1, HELLO_NAME).await {
            Ok(session) => serve_session(&machine, session, &host).await?,
            Err(error) => {
                log(&format!("cannot begin a session: {}", chain(&error)));
                host.open(machine.frozen_watch()).await?
            }
        };
    }
}

/// Serves one session to its end, and returns the channel for the next.
async fn serve_session(
    machine: &Arc<Machine>,
    session: Accepted<Reader, Writer>,
    host: &HostLink,
) -> Result<Channel, SystemError> {
    let Accepted { link, hello, mut incoming, channel } = session;
    log(&format!("session {} with {}", link.session(), hello.name));
    machine.load_modules_once();
    spawn_requests(machine, &mut incoming).await;
    machine.end_session();
    let reason = link.ended().cloned().unwrap_or(LinkError::Closed);
    match (reason, channel.await) {
        // The reader already holds the preamble of the next session.
        (LinkError::Restarted, Ok(channel)) => Ok(channel),
        (reason, closed_channel) => {
            // Closed first: only the new session may poll the port.
            drop(closed_channel);
            log(&format!("session ended: {}", chain(&reason)));
            host.open(machine.frozen_watch()).await
        }
    }
}

async fn spawn_requests(machine: &Arc<Machine>, incoming: &mut Incoming) {
    while let Some((request, stream)) = incoming.next().await {
        tokio::spawn(handle_request(machine.clone(), request, stream));
    }
}

/// Handles one request. Every failure is reported to the host.
async fn handle_request(machine: Arc<Machine>, request: Bytes, stream: Stream) {
    let request = match serde_json::from_slice(&request) {
        Ok(request) => request,
        Err(error) => {
            let failed = failure(FailureKind::Invalid, format!("cannot parse the request: {error}"));
            return stream.sender.message(&Reply::Failed(failed));
        }
    };
    match request {
        Request::Volume(volume) => volume::handle_stream(&machine, volume, stream).await,
        Request::Start(process) => start::handle_stream(&machine, process, stream).await,
        Request::Exec(process) => exec::handle_stream(&machine, process, stream).await,
        Request::ReadArchive { path, follow, content } => {
            let options = PackOptions { follow, one_filesystem: content, content };
            archive::handle_read(&machine, path, options, stream).await;
        }
        Request::ReadRoot => {
            let options = PackOptions { follow: false, one_filesystem: true, content: false };
            archive::handle_read(&machine, "/".to_owned(), options, stream).await;
        }
        Request::ReadChanges { format } => archive::handle_changes(&machine, format, stream).await,
        Request::WriteArchive { directory } => archive::handle_write(&machine, directory, stream).await,
        Request::ReadFile { path } => files::handle_read(&machine, path, stream).await,
        Request::WriteFile(file) => files::handle_write(&machine, file, stream).await,
        Request::Attach => attach::handle_stream(&machine, stream),
        Request::Shutdown => shutdown::handle_stream(&machine, stream).await,
        request => stream.sender.message(&match reply_to(&machine, request).await {
            Ok(reply) => reply,
            Err(failed) => Reply::Failed(failed),
        }),
    }
}

/// Handles the requests that have a single reply.
async fn reply_to(machine: &Arc<Machine>, request: Request) -> Result<Reply, Failure> {
    match request {
        Request::Configure(configure) => configure::handle(machine, *configure).await,
        Request::DiskVolume(volume) => disk_volume::handle(machine, volume).await,
        Request::Signal { signal } => signal::handle(machine, signal),
        Request::Metrics => metrics::handle(machine).await,
        Request::Processes => processes::handle(machine).await,
        Request::Probe { url, timeout_ms } => probe::handle(&url, timeout_ms).await,
        Request::Stat { path } => stat::handle(machine, path).await,
        Request::StatFile { path, follow } => files::handle_stat(machine, path, follow).await,
        Request::ListDirectory { path, after, limit } => {
            files::handle_list(machine, path, after, limit).await
        }
        Request::MakeDirectory(directory) => files::handle_make_directory(machine, directory).await,
        Request::RemovePath { path, recursive } => files::handle_remove(machine, path, recursive).await,
        Request::SetClock { unix_nanos } => configure::set_clock(unix_nanos).map(|()| Reply::Done),
        Request::Prepare => freeze::prepare(machine).await,
        Request::Freeze => freeze::handle(machine).await,
        Request::Reset => reset::handle(machine).await,
        Request::Clock => Ok(Reply::Clock { nanos: thaw::monotonic() }),
        Request::Thaw { unix_nanos, advance_nanos, since } => {
            thaw::handle(machine, unix_nanos, thaw::missed_nanos(advance_nanos, since, thaw::monotonic()))
                .await
        }
        Request::Identify(identity) => identify::handle(machine, *identity).await,
        Request::Volume(_)
        | Request::Start(_)
        | Request::Exec(_)
        | Request::ReadArchive { .. }
        | Request::ReadRoot
        | Request::ReadChanges { .. }
        | Request::WriteArchive { .. }
        | Request::ReadFile { .. }
        | Request::WriteFile(_)
        | Request::Attach
        | Request::Shutdown => Err(blocking::lost_request()),
    }
}
