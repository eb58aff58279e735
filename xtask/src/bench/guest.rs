//! Commands in a guest, over a session with its machine's monitor.

use anyhow::{Result, bail, ensure};
use mimeo_agent_protocol::link::{Item, Stream};
use mimeo_agent_protocol::message::{ExitStatus, Process, Reply, Request};
use mimeo_engine::{ControlClient, Engine, Found, Selector};

/// A session with a machine, and what `true` in it starts from.
#[derive(Debug)]
pub(super) struct Session {
    client: ControlClient,
    process: Process,
}

impl Session {
    /// Begins a session with the machine of this name.
    pub(super) async fn with(engine: &Engine, name: &str) -> Result<Self> {
        let found = engine.registry().find(&Selector::Word(name.to_owned()))?;
        Self::of(engine, &found).await
    }

    async fn of(engine: &Engine, found: &Found) -> Result<Self> {
        let process = Process { args: vec!["true".to_owned()], stdin: false, ..found.record.surroundings() };
        Ok(Self { client: ControlClient::connect(engine.home(), found).await?, process })
    }

    /// Runs `true`, from the request to the exit status.
    pub(super) async fn exec(&self) -> Result<()> {
        let (reply, stream) = self.client.guest(Request::Exec(self.process.clone())).await?;
        ensure!(matches!(reply, Reply::Started { .. }), "answered out of turn: {reply:?}");
        let status = ended(stream).await?;
        ensure!(status == ExitStatus::Code(0), "true ended with {status:?}");
        Ok(())
    }
}

async fn ended(mut stream: Stream) -> Result<ExitStatus> {
    while let Some(item) = stream.receiver.next().await? {
        if let Item::Message(json) = item
            && let Reply::Exited { status } = serde_json::from_slice(&json)?
        {
            return Ok(status);
        }
    }
    bail!("the stream ended without a status")
}
