//! Checks that each block of a template has one end: the engine ignores what follows a surplus end,
//! and does not miss one.

/// The actions that open a block.
const OPENING: [&str; 5] = ["if", "range", "with", "define", "block"];

/// Checks a template that the engine has parsed.
pub(super) fn check(source: &str) -> Result<(), String> {
    let mut depth = 0;
    for word in keywords(source) {
        if OPENING.contains(&word) {
            depth += 1;
        } else if word == "end" {
            depth -= 1;
        }
        if depth < 0 {
            return Err("unexpected {{end}}".to_owned());
        }
    }
    if depth > 0 { Err("an {{end}} is missing".to_owned()) } else { Ok(()) }
}

/// The first word of each action.
fn keywords(source: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = source;
    while let Some((_, action)) = rest.split_once("{{") {
        let (inside, after) = action.split_at(length(action));
        let start = inside.trim_start_matches(|c: char| c == '-' || c.is_whitespace());
        let end = start.find(|c: char| !c.is_alphanumeric()).unwrap_or(start.len());
        words.push(&start[..end]);
        rest = after;
    }
    words
}

/// The length of an action up to its `}}`, which may also be inside a quoted text or a comment.
fn length(action: &str) -> usize {
    if action.trim_start_matches(['-', ' ']).starts_with("/*") {
        return action.find("*/").unwrap_or(action.len());
    }
    let mut quote = None;
    let mut escaped = false;
    for (at, character) in action.char_indices() {
        match quote {
            None if action[at..].starts_with("}}") => return at,
            None if matches!(character, '"' | '`' | '\'') => quote = Some(character),
            Some(open) if character == open && !escaped => quote = None,
            _ => {}
        }
        escaped = character == '\\' && !escaped && quote != Some('`');
    }
    action.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_outside_of_texts_and_comments() {
        for good in [
            "",
            "{{if .A}}{{else if .B}}{{end}}",
            "{{- range . -}}{{end}}",
            r#"{{"}} {{if}}"}}"#,
            "{{/* {{if}} */}}x",
            r#"{{"\""}}"#,
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["{{if .A}}", "{{end}}", "{{with .A}}{{end}}{{end}}", "{{range .A}}{{if .B}}{{end}}"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
