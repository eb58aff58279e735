//! A request for a clone of a snapshot.

use mimeo_engine::machine::CloneOverrides;
use mimeo_manager_api as api;

use super::check::variables;
use super::error::{ConvertError, InField};
use super::network;

/// Converts a request with a snapshot into what its clone does not take over from it.
///
/// # Errors
/// If a value cannot be used, or is one that a clone takes over from its snapshot.
pub fn clone_overrides(wire: &api::CreateMachine) -> Result<CloneOverrides, ConvertError> {
    if let Some(field) = inherited_field(wire) {
        return Err(ConvertError::new(field, "a clone takes it over from its snapshot"));
    }
    variables("env", &wire.env)?;
    Ok(CloneOverrides {
        name: wire.name.as_deref().map(str::parse).transpose().in_field("name")?,
        ports: Some(network::ports(&wire.ports)?).filter(|ports| !ports.is_empty()),
        env: wire.env.clone(),
        remove: wire.remove,
        id: None,
        labels: Some(wire.labels.clone()).filter(|labels| !labels.is_empty()),
    })
}

/// The first field that is set and does not apply to clones.
fn inherited_field(wire: &api::CreateMachine) -> Option<String> {
    let others = api::CreateMachine {
        name: None,
        snapshot: None,
        ports: Vec::new(),
        env: Default::default(),
        labels: Default::default(),
        remove: false,
        ttl_seconds: None,
        start: None,
        ..wire.clone()
    };
    // Fields that are not set are not serialised.
    let fields = serde_json::to_value(others).ok()?;
    fields.as_object()?.keys().next().cloned()
}
