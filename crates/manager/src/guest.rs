//! Connections to the guests of machines that run.

use mimeo_engine::ControlClient;
use mimeo_engine::machine::{Action, Found, decide};

use crate::App;
use crate::api_error::Result;
use crate::problems;

/// Connects to the supervisor of a machine whose guest answers requests.
///
/// # Errors
/// If the machine's state does not allow requests to its guest, or its supervisor does not answer.
pub(crate) async fn connect(app: &App, found: &Found) -> Result<ControlClient> {
    if found.supervised
        && let Err(refusal) = decide(found.record.phase(), Action::Enter)
    {
        return Err(problems::refusal_problem(&found.record.name, refusal).into());
    }
    let client = ControlClient::connect(app.engine().home(), found).await;
    Ok(client.map_err(|error| problems::connect_problem(&error))?)
}
