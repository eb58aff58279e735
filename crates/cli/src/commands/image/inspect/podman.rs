//! An image with podman's field names, for `--format`. The JSON keeps mimeo's own names.

use mimeo_image::{ImageName, Inspection};
use serde_json::{Value, json};

use crate::error::CliError;

/// mimeo's fields and podman's, in one object.
pub(crate) fn fields(inspection: &Inspection) -> Result<Value, CliError> {
    let mut value = serde_json::to_value(inspection)?;
    if let (Value::Object(own), Value::Object(podman)) = (&mut value, podman(inspection)) {
        own.extend(podman);
    }
    Ok(value)
}

fn podman(inspection: &Inspection) -> Value {
    let image = &inspection.image;
    let document = &inspection.document;
    let layers: Vec<_> = image.layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    let id = image.id.hex();
    json!({
        "Id": id,
        "ID": id,
        "Digest": image.digest.to_string(),
        "RepoTags": image.names.iter().filter(|name| !name.contains('@')).collect::<Vec<_>>(),
        "RepoDigests": repository_digests(inspection),
        "Created": image.created,
        "Architecture": image.architecture,
        "Os": image.os,
        "Size": image.size,
        "VirtualSize": image.size,
        "Author": document.get("author").and_then(Value::as_str).unwrap_or_default(),
        "Comment": document.get("comment").and_then(Value::as_str).unwrap_or_default(),
        "Config": config(document),
        "Labels": image.config.labels,
        "User": document.pointer("/config/User").and_then(Value::as_str).unwrap_or_default(),
        "History": document.get("history").cloned().unwrap_or_else(|| json!([])),
        "RootFS": {"Type": "layers", "Layers": layers},
        "NamesHistory": image.names,
    })
}

/// The image's own configuration, in which absent settings are empty.
fn config(document: &Value) -> Value {
    let mut config = json!({"User": "", "ExposedPorts": {}, "Env": [], "Entrypoint": [], "Cmd": [], "Volumes": {},
                            "WorkingDir": "", "Labels": {}, "StopSignal": ""});
    if let (Some(defaults), Some(Value::Object(set))) = (config.as_object_mut(), document.get("config")) {
        defaults.extend(set.clone().into_iter().filter(|(_, value)| !value.is_null()));
    }
    config
}

fn repository_digests(inspection: &Inspection) -> Vec<String> {
    let digest = inspection.image.digest;
    let parsed = inspection.image.names.iter().filter_map(|name| name.parse::<ImageName>().ok());
    let mut names: Vec<_> =
        parsed.map(|name| format!("{}/{}@{digest}", name.registry(), name.repository())).collect();
    names.sort();
    names.dedup();
    names
}
