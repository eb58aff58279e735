//! Stage 3: chooses the published ports and connects the machine to its network.

use super::imaged::Imaged;
use super::planned::Planned;
use crate::network::{Connection, ReservedPort, reserve_port};
use crate::stage::StageError;

/// A machine whose published ports are chosen and free.
#[derive(Debug)]
pub(super) struct Networked {
    pub(super) imaged: Imaged,
    pub(super) connection: Connection,
}

impl Imaged {
    /// Chooses host ports where none were requested, checks that the others are free, and attaches the machine to
    /// the bridge in bridged mode. Without a bridge, the VMM binds the ports a moment later; if another process
    /// takes one in between, the launch fails and names it. Undo: dropping the connection.
    pub(super) fn network(mut self) -> Result<Networked, StageError> {
        let Planned { claim, driver, stopwatch, .. } = &mut self.planned;
        if claim.is_for_files() {
            // No container will serve the ports.
            let connection = Connection::attach(driver.as_ref(), &mut claim.record, &claim.dir)?;
            return Ok(Networked { imaged: self, connection });
        }
        let ports = claim.record.network.iter_mut().flat_map(|network| &mut network.ports);
        // All stay bound until the last one is chosen: a port that is requested twice is in use.
        let reserved = ports.map(reserve_port).collect::<Result<Vec<ReservedPort>, _>>()?;
        let mut connection = Connection::attach(driver.as_ref(), &mut claim.record, &claim.dir)?;
        let ports = claim.record.network.as_ref().map_or(&[][..], |network| &network.ports);
        connection.publish(ports, reserved)?;
        stopwatch.lap("network");
        Ok(Networked { imaged: self, connection })
    }
}
