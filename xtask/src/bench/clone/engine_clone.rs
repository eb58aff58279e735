//! A clone, started as the engine starts it: by its own supervisor process.

use std::process::Stdio;

use anyhow::{Context, Result, bail};
use mimeo_engine::launch_request::{
    CloneInfo, CloneOverrides, CloneRequest, HoldPolicy, LaunchRequest, SupervisorReport,
};
use mimeo_engine::snapshot::SnapshotId;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::bench::lab::Site;

/// A running clone.
#[derive(Debug)]
pub(super) struct EngineClone {
    supervisor: Child,
    pub(super) info: CloneInfo,
}

impl EngineClone {
    /// Starts a clone and waits until its workload has resumed.
    pub(super) async fn start(site: &Site<'_>, snapshot: &SnapshotId) -> Result<Self> {
        let mut supervisor = Command::from(site.command(["supervisor"]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the supervisor")?;
        let stdin = supervisor.stdin.as_mut().context("stdin is piped")?;
        stdin.write_all(&launch_request(snapshot)?).await?;
        let stdout = supervisor.stdout.take().context("stdout is piped")?;
        let line = BufReader::new(stdout)
            .lines()
            .next_line()
            .await?
            .context("the supervisor ended without a report")?;
        match serde_json::from_str(&line)? {
            SupervisorReport::Running { clone } => Ok(Self { supervisor, info: *clone }),
            report => bail!("cannot start the clone: {report:?}"),
        }
    }

    /// Stops the clone and waits for its supervisor.
    pub(super) async fn end(mut self, site: &Site<'_>) -> Result<()> {
        site.stop(self.info.name.as_str())?;
        self.supervisor.wait().await?;
        Ok(())
    }
}

fn launch_request(snapshot: &SnapshotId) -> Result<Vec<u8>> {
    let overrides = CloneOverrides { remove: true, ..CloneOverrides::default() };
    let request = CloneRequest {
        snapshot: snapshot.clone(),
        hold: HoldPolicy::Never,
        serve: None,
        pager: None,
        overrides,
    };
    let mut line = serde_json::to_vec(&LaunchRequest::Clone(Box::new(request)))?;
    line.push(b'\n');
    Ok(line)
}
