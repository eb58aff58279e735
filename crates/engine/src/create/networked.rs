//! Stage 3: every published port has a number and is free.

use super::imaged::Imaged;
use super::planned::Planned;
use crate::network::{Connection, ReservedPort, reserve_port};
use crate::stage::StageError;

/// A machine whose ports are chosen.
#[derive(Debug)]
pub(super) struct Networked {
    pub(super) imaged: Imaged,
    pub(super) connection: Connection,
}

impl Imaged {
    /// Chooses the ports that were left open and tries the others, and puts the
    /// machine on the bridge if it is to be there. Without a bridge the monitor
    /// takes the ports a moment later; should somebody be faster, its launch
    /// fails and says so. Undo: the connection's drop.
    pub(super) fn network(mut self) -> Result<Networked, StageError> {
        let Planned { claim, driver, clock, .. } = &mut self.planned;
        let ports = claim.record.network.iter_mut().flat_map(|network| &mut network.ports);
        // Held until all are settled: a port that is asked for twice is in use.
        let reserved = ports.map(reserve_port).collect::<Result<Vec<ReservedPort>, _>>()?;
        let mut connection = Connection::attach(driver.as_ref(), &mut claim.record, &claim.dir)?;
        let ports = claim.record.network.as_ref().map_or(&[][..], |network| &network.ports);
        connection.publish(ports, reserved)?;
        clock.lap("network");
        Ok(Networked { imaged: self, connection })
    }
}
