//! A process in a machine's container that ends with the request that has started it.

use std::time::Duration;

use mimeo_agent_protocol::link::{Item, LinkError, Receiver, Sender, Stream};
use mimeo_agent_protocol::message::{Input, Process, Reply, Request};
use mimeo_engine::ControlClient;
use mimeo_manager_api::Problem;

use crate::App;
use crate::api_error::{ApiError, Result};
use crate::problems;

/// Linux's number of SIGKILL.
const SIGKILL: i32 = 9;
/// How long the connection of a process that nobody waits for is kept, so that the guest receives its SIGKILL.
const KILL_TIMEOUT: Duration = Duration::from_secs(60);

/// A process that has been started, or is being started. If it is dropped before the process has ended, the process is
/// killed.
pub(crate) struct ExecProcess {
    app: App,
    client: ControlClient,
    /// Taken when the process has ended.
    stream: Option<Stream>,
}

impl ExecProcess {
    /// Asks the guest to start a process.
    pub(crate) fn begin(app: &App, client: ControlClient, process: Process) -> Result<Self> {
        let stream =
            client.stream(Request::Exec(process)).map_err(|error| problems::control_problem(&error))?;
        Ok(Self { app: app.clone(), client, stream: Some(stream) })
    }

    /// Waits until the process runs.
    pub(crate) async fn started(&mut self) -> Result<()> {
        let client = self.client.clone();
        match client.first_reply(self.streams()?.1).await {
            Ok(Reply::Started { .. }) => Ok(()),
            Ok(reply) => Err(ApiError::new(502, "connection-lost", format!("unexpected reply: {reply:?}"))),
            Err(error) => {
                self.ended();
                Err(problems::control_problem(&error).into())
            }
        }
    }

    /// The two halves of the process's stream.
    pub(crate) fn streams(&mut self) -> Result<(&mut Sender, &mut Receiver)> {
        match &mut self.stream {
            Some(Stream { sender, receiver }) => Ok((sender, receiver)),
            None => Err(connection_lost(&LinkError::Closed)),
        }
    }

    /// Notes that the process has ended: it need not be killed.
    pub(crate) fn ended(&mut self) {
        self.stream = None;
    }
}

impl Drop for ExecProcess {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.app.spawn(kill(self.client.clone(), stream));
        }
    }
}

/// Kills a process. One that the guest has not started yet is killed as soon as it has.
async fn kill(client: ControlClient, stream: Stream) {
    let Stream { sender, mut receiver } = stream;
    sender.message(&Input::Signal { signal: SIGKILL });
    let ending = async {
        while let Ok(Some(item)) = receiver.next().await {
            let Item::Message(json) = item else { continue };
            if !matches!(serde_json::from_slice(&json), Ok(Reply::Started { .. })) {
                return;
            }
        }
    };
    if tokio::time::timeout(KILL_TIMEOUT, ending).await.is_err() {
        tracing::warn!(component = "exec", "a process did not end after SIGKILL");
    }
    drop(client);
}

/// The connection to the machine was lost.
pub(crate) fn connection_lost(error: &LinkError) -> ApiError {
    let detail = format!("the connection to the machine was lost: {error}");
    Problem::new(502, "connection-lost", detail)
        .with_hint("most often the machine has exited meanwhile")
        .into()
}
