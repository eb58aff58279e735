//! `rename` and `update`: change a machine's record.

use super::{ActError, send_request};
use crate::Engine;
use crate::control::ControlRequest;
use crate::machine::{Changes, Found, decide};

/// Changes the machine: its supervisor does, or, when it has none, this process.
///
/// # Errors
/// If the machine's state does not allow the changes, or a new name is taken; the machine is unchanged then.
pub async fn edit(engine: &Engine, machine: &Found, changes: &Changes) -> Result<(), ActError> {
    if machine.supervised {
        let refused = |refusal| ActError::Refused { name: machine.record.name.clone(), refusal };
        decide(machine.record.phase(), changes.action()).map_err(refused)?;
        if send_request(engine, machine, &ControlRequest::Edit { changes: changes.clone() }).await? {
            return Ok(());
        }
    }
    let record = engine.registry().edit(&machine.record.id, changes)?;
    engine.events().record(&record, changes.event(), &[]);
    Ok(())
}
