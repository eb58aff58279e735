//! podman's functions for templates, in addition to Go's.

use std::sync::Arc;

use gotmpl::{FuncMap, Result, TemplateError, Value, ValueFunc};

use super::data;

/// All functions.
pub(super) fn all() -> FuncMap {
    let functions: [(&str, ValueFunc); 9] = [
        ("index", Arc::new(index)),
        ("join", Arc::new(join)),
        ("json", Arc::new(json)),
        ("lower", Arc::new(|args| text_function("lower", args, str::to_lowercase))),
        ("pad", Arc::new(pad)),
        ("split", Arc::new(split)),
        ("title", Arc::new(|args| text_function("title", args, title))),
        ("truncate", Arc::new(truncate)),
        ("upper", Arc::new(|args| text_function("upper", args, str::to_uppercase))),
    ];
    functions.into_iter().map(|(name, function)| (name.into(), function)).collect()
}

/// As Go's `index` on podman's maps of texts: an absent key has the empty text.
fn index(args: &[Value]) -> Result<Value> {
    let (first, keys) = args.split_first().ok_or_else(|| arguments("index", 1, 0))?;
    keys.iter().try_fold(first.clone(), |value, key| match (&value, key) {
        (Value::Map(map), Value::String(name)) if !map.contains_key(name.as_ref()) => Ok(text("")),
        _ => value.index(key),
    })
}

fn join(args: &[Value]) -> Result<Value> {
    let [items, separator] = exactly("join", args)?;
    let separator = as_text("join", separator)?;
    match items {
        Value::List(items) => {
            Ok(text(items.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)))
        }
        Value::Nil => Ok(text("")),
        // In the heading of a table.
        Value::String(_) => Ok(items.clone()),
        _ => Err(mismatch("join", "a list", items)),
    }
}

fn json(args: &[Value]) -> Result<Value> {
    let [value] = exactly("json", args)?;
    Ok(text(data::to_json(value).to_string()))
}

fn split(args: &[Value]) -> Result<Value> {
    let [whole, separator] = exactly("split", args)?;
    let (whole, separator) = (as_text("split", whole)?, as_text("split", separator)?);
    let parts: Vec<Value> = match separator {
        "" => whole.chars().map(|character| text(character.to_string())).collect(),
        _ => whole.split(separator).map(text).collect(),
    };
    Ok(Value::List(parts.into()))
}

/// The first characters, at most as many as the second argument says.
fn truncate(args: &[Value]) -> Result<Value> {
    let [whole, length] = exactly("truncate", args)?;
    let length = as_length("truncate", length)?;
    Ok(text(as_text("truncate", whole)?.chars().take(length).collect::<String>()))
}

/// Blanks before and after a text that is not empty.
fn pad(args: &[Value]) -> Result<Value> {
    let [whole, before, after] = exactly("pad", args)?;
    let whole = as_text("pad", whole)?;
    let (before, after) = (as_length("pad", before)?, as_length("pad", after)?);
    match whole {
        "" => Ok(text("")),
        _ => Ok(text(format!("{}{whole}{}", " ".repeat(before), " ".repeat(after)))),
    }
}

fn title(words: &str) -> String {
    let mut before = ' ';
    words
        .chars()
        .map(|character| {
            let first = !before.is_alphanumeric() && !matches!(before, '_' | '\'');
            before = character;
            if first { character.to_uppercase().to_string() } else { character.to_string() }
        })
        .collect()
}

fn text_function(name: &'static str, args: &[Value], function: impl Fn(&str) -> String) -> Result<Value> {
    let [value] = exactly(name, args)?;
    Ok(text(function(as_text(name, value)?)))
}

fn text(text: impl AsRef<str>) -> Value {
    Value::String(text.as_ref().into())
}

fn exactly<'a, const N: usize>(name: &str, args: &'a [Value]) -> Result<&'a [Value; N]> {
    args.try_into().map_err(|_| arguments(name, N, args.len()))
}

fn as_text<'a>(name: &str, value: &'a Value) -> Result<&'a str> {
    value.as_str().ok_or_else(|| mismatch(name, "a text", value))
}

/// A length. It is bounded: a template must not fill the memory.
fn as_length(name: &str, value: &Value) -> Result<usize> {
    let length = value.as_int().and_then(|number| usize::try_from(number).ok());
    length.filter(|length| *length <= 1 << 16).ok_or_else(|| mismatch(name, "a length up to 65536", value))
}

fn arguments(name: &str, expected: usize, got: usize) -> TemplateError {
    TemplateError::ArgCount { name: name.into(), expected, got }
}

fn mismatch(name: &str, expected: &str, value: &Value) -> TemplateError {
    TemplateError::Exec(format!("{name} expects {expected}, not {} {value}", value.type_name()))
}
