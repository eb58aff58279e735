//! podman's `--format`: `json`, or a template with `{{.Field}}` in it. Of Go's
//! template language only fields and the `json` function are supported.

use serde_json::Value;

use crate::error::CliError;

/// How to print a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Format {
    /// As JSON.
    Json,
    /// As this template.
    Text(String),
}

impl Format {
    /// The format that `--format` and `--json` select.
    pub(crate) fn from_arguments(format: Option<&str>, json: bool) -> Option<Self> {
        match format {
            Some("json") => Some(Self::Json),
            Some(text) => Some(Self::Text(text.strip_prefix("table ").unwrap_or(text).replace("\\t", "\t"))),
            None => json.then_some(Self::Json),
        }
    }
}

/// Substitutes the fields of `value` in `template`.
pub(crate) fn render(template: &str, value: &Value) -> Result<String, CliError> {
    let mut text = String::new();
    let mut remaining = template;
    while let Some((before, field)) = remaining.split_once("{{") {
        let (field, after) = field.split_once("}}").ok_or_else(|| {
            CliError::usage(format!("--format {template:?} has {{{{ without a closing }}}}"))
        })?;
        text.push_str(before);
        text.push_str(&look_up(field.trim(), value)?);
        remaining = after;
    }
    text.push_str(remaining);
    Ok(text)
}

fn look_up(field: &str, value: &Value) -> Result<String, CliError> {
    let (path, json) = match field.strip_prefix("json ") {
        Some(path) => (path.trim(), true),
        None => (field, false),
    };
    let unknown = || {
        CliError::usage(format!(
            "unknown field {field:?}: --format supports fields such as {{{{.Id}}}} and {{{{json .Config}}}}"
        ))
    };
    let keys = path.strip_prefix('.').ok_or_else(unknown)?;
    let mut found = value;
    for key in keys.split('.').filter(|key| !key.is_empty()) {
        found = found.get(key).ok_or_else(unknown)?;
    }
    if json { Ok(serde_json::to_string(found)?) } else { Ok(go_text(found)) }
}

/// Formats a value as Go does.
fn go_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let pairs = map.iter().map(|(key, value)| format!("{key}:{}", go_text(value)));
            format!("map[{}]", pairs.collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_substituted() {
        let value = json!({"Id": "ab", "State": {"Pid": 5, "Running": true}, "Args": ["a", "b"]});
        let text = |template| render(template, &value).unwrap_or_default();
        assert_eq!(text("{{.Id}} {{ .State.Pid }}{{.State.Running}}"), "ab 5true");
        assert_eq!(text("{{.Args}} {{json .Args}}"), "[a b] [\"a\",\"b\"]");
        assert_eq!(text("plain"), "plain");
        assert!(render("{{.Nope}}", &value).is_err());
        assert!(render("{{.Id", &value).is_err());
        assert!(render("{{range .Args}}", &value).is_err());
    }
}
