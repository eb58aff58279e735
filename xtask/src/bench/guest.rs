//! Commands in a guest, over a session with its machine's supervisor.

use anyhow::{Result, bail, ensure};
use mimeo_agent_protocol::link::{Item, Stream};
use mimeo_agent_protocol::message::{ExitStatus, Process, Reply, Request};
use mimeo_engine::{ControlClient, Engine, Found, Selector};

/// A session with a machine, and the process that runs `true` in it.
#[derive(Debug)]
pub(super) struct Session {
    client: ControlClient,
    process: Process,
}

impl Session {
    /// Connects to the machine with this name.
    pub(super) async fn connect(engine: &Engine, name: &str) -> Result<Self> {
        let found = engine.registry().find(&Selector::NameOrId(name.to_owned()))?;
        Self::connect_to(engine, &found).await
    }

    async fn connect_to(engine: &Engine, found: &Found) -> Result<Self> {
        let process = Process { args: vec!["true".to_owned()], stdin: false, ..found.record.exec_defaults() };
        Ok(Self { client: ControlClient::connect(engine.home(), found).await?, process })
    }

    /// Runs `true`, from the request to the exit status.
    pub(super) async fn exec(&self) -> Result<()> {
        let (reply, stream) = self.client.guest(Request::Exec(self.process.clone())).await?;
        ensure!(matches!(reply, Reply::Started { .. }), "unexpected reply: {reply:?}");
        let status = wait_for_exit(stream).await?;
        ensure!(status == ExitStatus::Code(0), "true ended with {status:?}");
        Ok(())
    }
}

async fn wait_for_exit(mut stream: Stream) -> Result<ExitStatus> {
    while let Some(item) = stream.receiver.next().await? {
        if let Item::Message(json) = item
            && let Reply::Exited { status } = serde_json::from_slice(&json)?
        {
            return Ok(status);
        }
    }
    bail!("the stream ended without an exit status")
}
