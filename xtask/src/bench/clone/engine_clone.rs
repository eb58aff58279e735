//! A copy, made as the engine makes it: a monitor of its own is told to.

use std::process::Stdio;

use anyhow::{Context, Result, bail};
use mimeo_engine::launch_request::{
    CloneInfo, CloneOverrides, CloneRequest, HoldPolicy, LaunchRequest, SupervisorReport,
};
use mimeo_engine::snapshot::SnapshotId;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::bench::lab::Site;

/// A copy that runs.
#[derive(Debug)]
pub(super) struct Copy {
    monitor: Child,
    pub(super) info: CloneInfo,
}

impl Copy {
    /// Starts one, and waits until its workload goes on.
    pub(super) async fn start(site: &Site<'_>, snapshot: &SnapshotId) -> Result<Self> {
        let mut monitor = Command::from(site.command(["supervisor"]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the monitor does not start")?;
        let stdin = monitor.stdin.as_mut().context("it was asked for")?;
        stdin.write_all(&order(snapshot)?).await?;
        let stdout = monitor.stdout.take().context("it was asked for")?;
        let line = BufReader::new(stdout).lines().next_line().await?.context("it ended without a word")?;
        match serde_json::from_str(&line)? {
            SupervisorReport::Running { clone } => Ok(Self { monitor, info: *clone }),
            told => bail!("there is no copy: {told:?}"),
        }
    }

    /// Ends it.
    pub(super) async fn end(mut self, site: &Site<'_>) -> Result<()> {
        site.stop(self.info.name.as_str())?;
        self.monitor.wait().await?;
        Ok(())
    }
}

fn order(snapshot: &SnapshotId) -> Result<Vec<u8>> {
    let wishes = CloneOverrides { remove: true, ..CloneOverrides::default() };
    let order = CloneRequest {
        snapshot: snapshot.clone(),
        hold: HoldPolicy::Never,
        serve: None,
        pager: None,
        overrides: wishes,
    };
    let mut line = serde_json::to_vec(&LaunchRequest::Clone(Box::new(order)))?;
    line.push(b'\n');
    Ok(line)
}
