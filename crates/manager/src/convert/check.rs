//! Checks of texts.

use super::error::{ConvertError, Converted};

/// Refuses the value of a field unless `is_valid`.
pub(super) fn require(is_valid: bool, field: impl Into<String>, message: impl Into<String>) -> Converted<()> {
    if is_valid { Ok(()) } else { Err(ConvertError::new(field, message.into())) }
}

/// Refuses a path that is not absolute.
pub(super) fn absolute_path(field: &str, path: &str) -> Converted<()> {
    require(path.starts_with('/'), field, format!("{path:?} is not an absolute path in the container"))?;
    require(!path.contains('\0'), field, "a path has no NUL character")
}

/// An absolute path in the container, without repeated and trailing slashes, `.` and `..`.
pub(super) fn container_path(field: &str, path: &str) -> Converted<String> {
    absolute_path(field, path)?;
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    Ok(format!("/{}", parts.join("/")))
}

/// A word of a configuration file of the guest, in which a line feed would begin another entry.
pub(super) fn word(field: impl Into<String>, text: &str) -> Converted<()> {
    let is_word =
        !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#');
    require(is_word, field, format!("{text:?} is not a word"))
}

/// A host name, as sethostname(2) takes it.
pub(super) fn hostname(text: &str) -> Converted<()> {
    let label = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let is_valid = text.len() <= 64 && text.split('.').all(label);
    require(is_valid, "hostname", format!("{text:?} is not a host name of at most 64 characters"))
}

/// The names and values of environment variables, which are C strings.
pub(super) fn variables<'a>(
    field: &str,
    variables: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Converted<()> {
    for (name, value) in variables {
        let is_name = !name.is_empty() && !name.contains(['=', '\0']);
        require(is_name, field, format!("{name:?} is not the name of a variable"))?;
        require(!value.contains('\0'), format!("{field}.{name}"), "a value has no NUL character")?;
    }
    Ok(())
}

/// The words of a command, which are C strings.
pub(super) fn command(field: &str, words: &[String]) -> Converted<()> {
    match words.iter().position(|word| word.contains('\0')) {
        Some(at) => Err(ConvertError::new(format!("{field}[{at}]"), "an argument has no NUL character")),
        None => Ok(()),
    }
}
