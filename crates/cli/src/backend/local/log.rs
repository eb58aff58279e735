//! The log of a machine of this host.

use std::time::Duration;

use async_trait::async_trait;
use mimeo_engine::machine::{MachineId, Phase};
use mimeo_engine::{Engine, Found};

use super::log_file::LogFile;
use crate::backend::{LogReader, OnLine};
use crate::error::CliError;

/// Time between looks at several logs.
const SEVERAL_INTERVAL: Duration = Duration::from_millis(100);

/// A log of this host.
pub(super) struct LocalLog {
    engine: Engine,
    id: MachineId,
    file: LogFile,
    /// Whether the log was read since the last wait: then there is nothing new yet.
    is_read: bool,
}

impl LocalLog {
    pub(super) fn new(engine: &Engine, machine: &Found) -> Self {
        let file = LogFile::new(machine.dir.clone(), machine.record.spec.log);
        Self { engine: engine.clone(), id: machine.record.id.clone(), file, is_read: false }
    }

    fn has_ended(&self) -> bool {
        match self.engine.registry().read(&self.id) {
            Some(found) => !found.supervised || found.record.phase() == Phase::Exited,
            None => true,
        }
    }
}

#[async_trait]
impl LogReader for LocalLog {
    async fn read(&mut self, on_line: &mut OnLine<'_>) -> Result<(), CliError> {
        self.file.read(on_line)
    }

    async fn follow(&mut self, is_one_of_several: bool, on_line: &mut OnLine<'_>) -> Result<bool, CliError> {
        if std::mem::replace(&mut self.is_read, true) {
            match is_one_of_several {
                true => tokio::time::sleep(SEVERAL_INTERVAL).await,
                false => self.file.wait(),
            }
        }
        // Checked before reading: no line is written after the machine has exited.
        let has_ended = self.has_ended();
        self.file.read(on_line)?;
        Ok(!has_ended)
    }
}
