//! Pools: clones of snapshots that are started before they are requested.
//!
//! Each pool is kept by a process of its own, a snapshot server that releases its clones: it outlives the manager, is found
//! again by the next one, and the clones that were taken from it do not depend on it.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use mimeo_engine::cause::chain;
use mimeo_engine::snapshot_server::{self, ServeRecord};
use mimeo_engine::{SnapshotId, own_program, restore_open_files};
use mimeo_manager_api::{Pool, PoolState};
use rustix::process::Signal;
use tokio::process::Child;

use crate::App;
use crate::database::DatabaseError;
use crate::live::ServerStart;
use crate::volumes::blocking;

/// Pause between two looks at the servers.
const INTERVAL: Duration = Duration::from_secs(5);
/// Pause between two looks while a server is being started or ended.
const SHORT_INTERVAL: Duration = Duration::from_millis(200);
/// Pause before a server that could not be started is started again.
const RETRY_DELAY: Duration = Duration::from_secs(30);
/// How much of a failed server's output is shown.
const MAX_ERROR_BYTES: usize = 4096;

/// Keeps the pools that were requested, until the manager ends. Their processes go on then.
pub(crate) async fn run(app: App) {
    loop {
        let pause = match fill_pools(&app).await {
            Ok(true) => INTERVAL,
            Ok(false) => SHORT_INTERVAL,
            Err(error) => {
                tracing::warn!(component = "pools", error = chain(&error), "cannot keep the pools");
                INTERVAL
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = app.pools().changed() => {}
            () = app.end().cancelled() => return,
        }
    }
}

/// Compares the servers with the pools that were requested. Returns whether all is as it should be.
async fn fill_pools(app: &App) -> Result<bool, DatabaseError> {
    let wanted = app.database().pools().await?;
    let engine = app.engine().clone();
    let listed = match blocking(move || snapshot_server::list(&engine)).await {
        Ok(listed) => listed,
        Err(error) => {
            tracing::warn!(component = "pools", %error, "cannot list the snapshot servers");
            return Ok(true);
        }
    };
    let mut is_settled = true;
    let mut servers = HashMap::new();
    for server in listed.into_iter().filter(|server| server.releases_clones) {
        let snapshot = server.snapshot.to_string();
        let size = wanted.iter().find(|(id, _)| *id == snapshot).map_or(0, |(_, size)| *size);
        if size as usize == server.pool && !servers.contains_key(&snapshot) {
            servers.insert(snapshot, server);
        } else {
            is_settled = false;
            if app.pools().ending().insert(server.id.clone()) {
                end(&server);
            }
        }
    }
    app.pools().starting().retain(|snapshot, _| {
        !servers.contains_key(snapshot) && wanted.iter().any(|(id, size)| id == snapshot && *size > 0)
    });
    for (snapshot, size) in wanted.iter().filter(|(snapshot, _)| !servers.contains_key(snapshot)) {
        match size {
            0 if is_settled => forget(app, snapshot).await?,
            0 => {}
            size => is_settled &= start(app, snapshot, *size).await,
        }
    }
    *app.pools().servers() = servers;
    Ok(is_settled)
}

/// Ends a server, and the clones that wait in its pool.
fn end(server: &ServeRecord) {
    if let Err(error) = server.process.send(Signal::TERM) {
        tracing::warn!(component = "pools", server = server.id, %error, "cannot end a snapshot server");
    }
}

async fn forget(app: &App, snapshot: &str) -> Result<(), DatabaseError> {
    let mut write = app.database().write().await?;
    write.remove_pool(snapshot).await?;
    write.commit().await
}

/// Starts the server of a pool, unless its process has been started. Returns false while that does not serve yet.
async fn start(app: &App, snapshot: &str, size: u32) -> bool {
    let log = log_path(app, snapshot);
    let mut starting = app.pools().starting();
    match starting.get_mut(snapshot) {
        Some(ServerStart::Running(child)) => match child.try_wait() {
            Ok(None) => return false,
            ended => {
                let error = failure(ended, &log);
                tracing::warn!(component = "pools", snapshot, error, "cannot keep a pool");
                starting.insert(snapshot.to_owned(), ServerStart::Failed { error, at: Instant::now() });
                return true;
            }
        },
        Some(ServerStart::Failed { at, .. }) if at.elapsed() < RETRY_DELAY => return true,
        _ => {}
    }
    let start = match spawn(app, snapshot, size, &log) {
        Ok(child) => ServerStart::Running(child),
        Err(error) => ServerStart::Failed { error: error.to_string(), at: Instant::now() },
    };
    starting.insert(snapshot.to_owned(), start);
    false
}

fn log_path(app: &App, snapshot: &str) -> PathBuf {
    app.engine().home().run().join(format!("pool-{}.log", &snapshot[..snapshot.len().min(12)]))
}

fn spawn(app: &App, snapshot: &str, size: u32, log: &PathBuf) -> io::Result<Child> {
    let home = app.engine().home();
    let process = own_program()?
        .args(["snapshot", "serve", snapshot, "--release", "--pool", &size.to_string()])
        .env("MIMEO_HOME", home.home())
        .env("MIMEO_RUN", home.run())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(log)?)
        // A signal to the manager's process group, such as that of Ctrl-C, is not for it.
        .process_group(0)
        .spawn()?;
    restore_open_files(process.id());
    Ok(process)
}

/// Why a server's process has ended.
fn failure(ended: io::Result<Option<std::process::ExitStatus>>, log: &PathBuf) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(MAX_ERROR_BYTES)..]).trim().to_owned();
    match ended {
        _ if !text.is_empty() => text,
        Ok(Some(status)) => format!("its process ended with {status}"),
        Ok(None) => "its process runs".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// The item of a pool of this size.
pub(crate) async fn item(app: &App, snapshot: &SnapshotId, size: u32) -> Pool {
    // A server with another size is about to end.
    let server = app.pools().servers().get(snapshot.as_str()).cloned();
    let server = server.filter(|server| server.pool == size as usize);
    let error = match app.pools().starting().get(snapshot.as_str()) {
        Some(ServerStart::Failed { error, .. }) => Some(error.clone()),
        _ => None,
    };
    let ready = match &server {
        Some(server) => count_ready(app, server).await,
        None => 0,
    };
    let state = match &server {
        Some(_) if ready >= size => PoolState::Ready,
        Some(_) => PoolState::Filling,
        None if error.is_some() => PoolState::Failed,
        None => PoolState::Starting,
    };
    Pool {
        snapshot: snapshot.to_string(),
        size,
        ready,
        state,
        pid: server.map(|server| server.process.pid),
        error,
    }
}

async fn count_ready(app: &App, server: &ServeRecord) -> u32 {
    match snapshot_server::reserve(server, 0).await {
        Ok(reservation) => u32::try_from(reservation.remaining).unwrap_or(u32::MAX),
        Err(error) => {
            tracing::info!(component = "pools", error = chain(&error), "cannot ask a pool");
            app.pools().wake();
            0
        }
    }
}
