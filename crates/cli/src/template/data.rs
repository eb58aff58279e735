//! JSON as the template engine's data, and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value as Data;
use serde_json::{Number, Value};

/// Converts JSON to a template's data.
pub(super) fn to_template(value: &Value) -> Data {
    match value {
        Value::Null => Data::Nil,
        Value::Bool(value) => Data::Bool(*value),
        Value::Number(number) => number_to_template(number),
        Value::String(text) => Data::String(text.as_str().into()),
        Value::Array(items) => Data::List(items.iter().map(to_template).collect()),
        Value::Object(map) => {
            let entries = map.iter().map(|(key, value)| (Arc::from(key.as_str()), to_template(value)));
            Data::Map(Arc::new(entries.collect::<BTreeMap<Arc<str>, Data>>()))
        }
    }
}

fn number_to_template(number: &Number) -> Data {
    match (number.as_i64(), number.as_u64()) {
        (Some(number), _) => Data::Int(number),
        (None, Some(number)) => Data::Uint(number),
        (None, None) => Data::Float(number.as_f64().unwrap_or_default()),
    }
}

/// Converts a template's data to JSON.
pub(super) fn to_json(data: &Data) -> Value {
    match data {
        Data::Bool(value) => Value::Bool(*value),
        Data::Int(number) => Value::from(*number),
        Data::Uint(number) => Value::from(*number),
        Data::Float(number) => Value::from(*number),
        Data::String(text) => Value::from(text.as_ref()),
        Data::List(items) => items.iter().map(to_json).collect(),
        Data::Map(map) => map.iter().map(|(key, value)| (key.to_string(), to_json(value))).collect(),
        // A function has no JSON form.
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_survives_both_conversions() {
        let value = json!({"a": [1, -2, 1.5, u64::MAX, true, null, "x"], "b": {}});
        assert_eq!(to_json(&to_template(&value)), value);
    }
}
