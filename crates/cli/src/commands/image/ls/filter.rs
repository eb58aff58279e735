//! `--filter` of images. Every filter has to match.

use jiff::Timestamp;
use mimeo_image::Image;
use regex::Regex;

use crate::error::CliError;
use crate::values::timestamp;

/// One filter.
#[derive(Debug, Clone)]
enum Filter {
    Reference(Regex),
    Id(String),
    Label(String, Option<String>),
    Dangling(bool),
    Before(Option<Timestamp>),
    Since(Option<Timestamp>),
    Until(Timestamp),
    Containers(bool),
    /// Matches all images, or none.
    Constant(bool),
}

/// All filters.
#[derive(Debug)]
pub(super) struct Filters(Vec<Filter>);

impl Filters {
    /// Parses each `KEY=VALUE`; images that filters name are among `images`.
    pub(super) fn parse(texts: &[String], images: &[Image]) -> Result<Self, CliError> {
        texts.iter().map(|text| parse(text, images)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the image, which `users` machines and snapshots use, passes all filters.
    pub(super) fn accept(&self, image: &Image, users: usize) -> bool {
        self.0.iter().all(|filter| filter.accepts(image, users))
    }
}

fn parse(text: &str, images: &[Image]) -> Result<Filter, CliError> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| CliError::usage(format!("{text:?} is an invalid filter: use KEY=VALUE")))?;
    match key {
        "reference" => pattern(value).map(Filter::Reference),
        "id" => Ok(Filter::Id(value.to_owned())),
        "label" => Ok(match value.split_once('=') {
            Some((key, value)) => Filter::Label(key.to_owned(), Some(value.to_owned())),
            None => Filter::Label(value.to_owned(), None),
        }),
        "dangling" => boolean(key, value).map(Filter::Dangling),
        "before" => created(value, images).map(Filter::Before),
        "since" | "after" => created(value, images).map(Filter::Since),
        "until" => timestamp("--filter until", value, Timestamp::now()).map(Filter::Until),
        "containers" => boolean(key, value).map(Filter::Containers),
        // No image of mimeo's is read-only or intermediate.
        "readonly" | "intermediate" => boolean(key, value).map(|wanted| Filter::Constant(!wanted)),
        _ => Err(CliError::usage(format!("unsupported image filter {key:?}"))),
    }
}

fn boolean(key: &str, value: &str) -> Result<bool, CliError> {
    value.parse().map_err(|_| CliError::usage(format!("--filter {key}={value:?} is neither true nor false")))
}

fn created(name: &str, images: &[Image]) -> Result<Option<Timestamp>, CliError> {
    let is_named = |image: &&Image| {
        image.id.hex().starts_with(name) || image.names.iter().any(|full| matches_name(full, name))
    };
    let found = images.iter().find(is_named);
    found.map(|image| image.created).ok_or_else(|| CliError::usage(format!("{name}: image not known")))
}

/// Whether `full` is `name`, where the registry, folder and tag may be omitted.
fn matches_name(full: &str, name: &str) -> bool {
    let end = full.strip_suffix(name).or_else(|| full.strip_suffix(":latest")?.strip_suffix(name));
    end.is_some_and(|start| start.is_empty() || start.ends_with('/'))
}

/// podman's pattern of names: `*` and `?` stand for any characters, and the parts before and after may be omitted.
fn pattern(text: &str) -> Result<Regex, CliError> {
    let escaped = regex::escape(text).replace(r"\*", "[^/]*").replace(r"\?", "[^/]");
    Regex::new(&format!("^(.*/)?{escaped}(:[^/]*|@.*)?$"))
        .map_err(|error| CliError::usage(format!("--filter reference={text:?} is not a pattern: {error}")))
}

impl Filter {
    fn accepts(&self, image: &Image, users: usize) -> bool {
        match self {
            Self::Reference(pattern) => image.names.iter().any(|name| pattern.is_match(name)),
            Self::Id(start) => image.id.hex().starts_with(start),
            Self::Label(key, value) => {
                let found = image.config.labels.get(key);
                found.is_some() && (value.is_none() || found == value.as_ref())
            }
            Self::Dangling(dangling) => image.names.is_empty() == *dangling,
            Self::Before(time) => image.created < *time,
            Self::Since(time) => image.created > *time,
            Self::Until(time) => image.created.is_some_and(|created| created <= *time),
            Self::Containers(used) => (users > 0) == *used,
            Self::Constant(result) => *result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_match_as_podmans() {
        let name = "docker.io/library/alpine:3.19";
        for yes in
            ["alpine", "alpine:3.19", "library/alpine", "docker.io/library/alpine:3.19", "alp*", "*:3.1?"]
        {
            assert!(pattern(yes).expect("a pattern").is_match(name), "{yes}");
        }
        for no in ["alpin", "lpine", "alpine:3", "busybox", "*/nginx"] {
            assert!(!pattern(no).expect("a pattern").is_match(name), "{no}");
        }
        assert!(matches_name("localhost/bb:latest", "bb") && matches_name("localhost/bb:1", "bb:1"));
        assert!(!matches_name("localhost/bb:1", "b:1"));
    }

    #[test]
    fn invalid_filters_are_refused() {
        for bad in ["foo=x", "dangling", "dangling=maybe", "before=nope", "until=soon"] {
            assert!(parse(bad, &[]).is_err(), "{bad}");
        }
    }
}
