//! What a process that joins a running container starts from.

use std::collections::BTreeMap;

use mimeo_agent_protocol::message::Process;

use crate::Engine;
use crate::create::process;
use crate::machine::Record;

/// The container's own environment, directory and user, without anything to
/// run: what `exec` begins with. An image that is gone leaves the person's
/// own settings.
#[must_use]
pub fn surroundings(engine: &Engine, record: &Record) -> Process {
    let image = record.image.as_ref().and_then(|image| engine.images().ok()?.find(&image.id).ok()?);
    let config = image.map(|image| image.config).unwrap_or_default();
    let mut spec = record.spec.clone();
    // Only for the description to be possible.
    spec.command = record.args.clone();
    spec.entrypoint = Some(Vec::new());
    let described = process::describe(&spec, &config).unwrap_or_default();
    let env: BTreeMap<String, String> = described.env;
    Process { env, cwd: described.cwd, user: described.user, ..Process::default() }
}
