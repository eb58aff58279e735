//! The manager, from its start to its end.

use std::net::SocketAddr;

use mimeo_engine::Engine;
use mimeo_manager_api::{Role, Token, User};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::App;
use crate::caller::ALL_SCOPES;
use crate::database::{Database, DatabaseError, OpenError, TokenRow};
use crate::home_lock::{HomeLock, HomeLockError};
use crate::http::listen::{ListenError, Listener, Serving};
use crate::http::router;
use crate::http::tls::{Certificate, TlsError};
use crate::settings::Settings;
use crate::{expire, observe_machines, pools, reconcile, retention, routes, snapshots, systemd, token_use};

/// Why a manager cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The home directory cannot be used.
    #[error(transparent)]
    Home(#[from] HomeLockError),
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database failed.
    #[error("cannot use the database")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The manager cannot listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Others could read tokens in the network.
    #[error(
        "cannot listen on {address} without TLS: who reads the network would read tokens: give --tls-cert and --tls-key, \
         listen on 127.0.0.1, or give --allow-plain-http if a proxy or a private network protects it"
    )]
    PlainHttp {
        /// The address.
        address: String,
    },
    /// Without a socket no client could connect.
    #[error("nothing to listen on: give --listen or --socket")]
    NoSocket,
    /// The operating system refused something else.
    #[error("cannot {step}")]
    Io {
        /// The operation.
        step: &'static str,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
}

impl From<DatabaseError> for ServeError {
    fn from(error: DatabaseError) -> Self {
        Self::Database(Box::new(error))
    }
}

/// What a manager says when it has started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The addresses that it listens on.
    pub addresses: Vec<String>,
    /// The token of the first administrator, if this is the first start. It is shown only now.
    pub first_token: Option<String>,
}

/// Runs a manager until SIGTERM or SIGINT. The machines run on.
///
/// # Errors
/// If it cannot start.
pub async fn serve(
    engine: Engine,
    settings: Settings,
    started: impl FnOnce(&Started),
) -> Result<(), ServeError> {
    let _home_lock = HomeLock::take(engine.home().home()).await?;
    raise_open_files();
    let mut signals = Signals::listen()?;
    let certificate = settings.tls.clone().map(Certificate::read).transpose()?;
    let listeners = listen(&settings).await?;
    let database = Database::open(&settings.database).await?;
    let app =
        App::new(engine, database, settings.allowed_hosts.clone(), &settings.limits, settings.describe_host);
    let first_token = first_token(&app).await?;
    recover(&app).await?;
    let watcher = app.engine().registry().watch();
    let watcher = watcher.map_err(|source| ServeError::Io { step: "watch the machines", source })?;
    app.spawn(observe_machines::run(app.clone(), watcher));
    app.spawn(reconcile::run(app.clone()));
    app.spawn(expire::run(app.clone()));
    app.spawn(pools::run(app.clone()));
    app.spawn(token_use::record_uses(app.clone()));
    if let Some(keep_events) = settings.keep_events {
        app.spawn(retention::run(app.clone(), keep_events));
    }
    let addresses = listeners.iter().map(Listener::address).collect();
    started(&Started { addresses, first_token });
    systemd::notify("READY=1");
    let mut serving = JoinSet::new();
    for listener in listeners {
        serving.spawn(listener.serve(Serving {
            router: router::service(&app, routes::all(&app)),
            certificate: certificate.clone(),
            client_timeout: settings.limits.client_timeout,
            end: app.end().clone(),
        }));
    }
    let is_taken_over = tokio::select! {
        () = signals.wait_for_end(certificate.as_ref()) => false,
        () = app.database().taken_over() => true,
    };
    systemd::notify("STOPPING=1");
    tracing::info!(component = "manager", "ending; the machines run on");
    app.end().cancel();
    tokio::select! {
        () = finish(&app, serving) => {}
        // The next manager takes up what is unfinished.
        () = signals.wait_for_end(None) => tracing::warn!(component = "manager", "ending at once, on a second signal"),
    }
    app.database().close().await;
    if is_taken_over { Err(OpenError::Taken { address: settings.database }.into()) } else { Ok(()) }
}

/// Each machine takes a descriptor, and each client.
fn raise_open_files() {
    if let Err(error) = mimeo_engine::raise_open_files() {
        tracing::warn!(component = "manager", %error, "cannot raise the limit of open files");
    }
}

/// Waits until all requests are answered, and all tasks have ended.
async fn finish(app: &App, mut serving: JoinSet<()>) {
    while serving.join_next().await.is_some() {}
    app.finish_tasks().await;
}

async fn listen(settings: &Settings) -> Result<Vec<Listener>, ServeError> {
    let mut listeners = systemd::sockets()?;
    if let Some(address) = settings.listen.filter(|_| listeners.is_empty()) {
        listeners.push(Listener::tcp(address).await?);
    }
    if let Some(path) = &settings.socket {
        listeners.push(Listener::unix(path)?);
    }
    if listeners.is_empty() {
        return Err(ServeError::NoSocket);
    }
    match listeners.iter().find(|listener| listener.is_public()) {
        Some(listener) if settings.tls.is_none() && !settings.allow_plain_http => {
            Err(ServeError::PlainHttp { address: listener.address() })
        }
        _ => Ok(listeners),
    }
}

/// Takes up what an earlier manager has left, before the first request is answered.
async fn recover(app: &App) -> Result<(), ServeError> {
    snapshots::record_sizes(app).await?;
    Ok(reconcile::all(app).await?)
}

/// Makes the first administrator, and a token, if there is no user yet.
async fn first_token(app: &App) -> Result<Option<String>, ServeError> {
    if !app.database().users().await?.is_empty() {
        return Ok(None);
    }
    let now = jiff::Timestamp::now();
    let user = User {
        id: routes::new_id(),
        name: "admin".to_owned(),
        role: Role::Admin,
        disabled: false,
        created_at: now,
    };
    let item = Token {
        id: routes::new_id(),
        name: "first".to_owned(),
        user: user.name.clone(),
        scopes: ALL_SCOPES.to_vec(),
        machine: None,
        created_at: now,
        expires_at: None,
        last_used_at: None,
    };
    let secret = routes::new_secret();
    let mut write = app.database().write().await?;
    write.add_user(&user).await?;
    write.add_token(&TokenRow { item, user }, &secret).await?;
    write.commit().await?;
    Ok(Some(secret))
}

/// The signals that the manager listens to.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> Result<Self, ServeError> {
        let listen =
            |kind| signal(kind).map_err(|source| ServeError::Io { step: "listen to signals", source });
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGINT or SIGTERM. On SIGHUP the certificate is read again.
    async fn wait_for_end(&mut self, certificate: Option<&Certificate>) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hang_up.recv() => certificate.into_iter().for_each(Certificate::reload),
            }
        }
    }
}

/// The address that a manager listens on by default.
pub const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 18080);
