//! A template's output as a table: podman's headings, and columns that are separated by tabs.

use serde_json::{Map, Value};

use super::{Headings, execute, parse, ranges_over_rows};
use crate::error::CliError;
use crate::output;

/// The heading: the template's output for an object whose fields are their own headings. Where the
/// template needs more than texts, each column has the heading of its last field.
pub(super) fn heading(source: &str, headings: &Headings) -> Result<String, CliError> {
    let named = fields(source);
    let pairs = named.iter().map(|field| (field.clone(), Value::from(heading_of(field, headings))));
    let object = Value::Object(pairs.collect::<Map<_, _>>());
    let sample = if ranges_over_rows(source) { Value::Array(vec![object]) } else { object };
    let line = execute(&parse(source)?, &sample).unwrap_or_else(|_| {
        let column = |cell: &str| fields(cell).last().map(|field| heading_of(field, headings));
        source.split('\t').map(|cell| column(cell).unwrap_or_default()).collect::<Vec<_>>().join("\t")
    });
    Ok(line.trim_end_matches('\n').to_owned())
}

/// The fields of the dot that the template names, in order.
fn fields(source: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut before = ' ';
    let mut rest = source;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        if character == '.' && !is_word(before) && !matches!(before, ')' | '"') {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            fields.push(rest[..end].to_owned());
        }
        before = character;
    }
    fields.retain(|field| field.starts_with(char::is_alphabetic));
    fields
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn heading_of(field: &str, headings: &Headings) -> String {
    match headings.iter().find(|(name, _)| *name == field) {
        Some((_, heading)) => (*heading).to_owned(),
        None => words(field),
    }
}

/// `CreatedAt` becomes `CREATED AT`.
fn words(field: &str) -> String {
    let mut text = String::new();
    let mut lower = false;
    for character in field.chars() {
        if lower && character.is_uppercase() {
            text.push(' ');
        }
        lower = character.is_lowercase();
        text.push(if character == '_' { ' ' } else { character });
    }
    text.to_uppercase()
}

/// Aligns the columns of lines whose cells are separated by tabs.
pub(super) fn align(lines: &str) -> String {
    let rows: Vec<Vec<String>> =
        lines.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect();
    output::align(&rows)
}
