//! `mimeo images`: lists local images.

use std::collections::BTreeMap;

use jiff::Timestamp;
use mimeo_engine::Engine;
use mimeo_image::{Image, ImageName};
use serde::Serialize;

use super::ImageUsers;
use crate::error::CliError;
use crate::template::{Format, render};
use crate::{humanize, output};

const HEADINGS: [&str; 5] = ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"];
/// podman's placeholder for a missing name or tag.
const NONE: &str = "<none>";

/// Arguments of `mimeo images`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mimeo images\n  mimeo images --quiet alpine")]
pub(crate) struct Args {
    /// Print only ids
    #[arg(short, long)]
    quiet: bool,
    /// Do not truncate ids
    #[arg(long)]
    no_trunc: bool,
    /// Accepted for compatibility with podman: there are no intermediate images
    #[arg(short, long)]
    all: bool,
    /// `json`, or a template with fields such as {{.Repository}}, {{.Tag}} and {{.ID}}
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Only images whose names contain this text
    name: Option<String>,
}

/// An image in `--json`, with podman's field names.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    id: String,
    names: Vec<String>,
    digest: String,
    /// Seconds since 1970; 0 if the image does not say.
    created: i64,
    created_at: Option<Timestamp>,
    /// Bytes on disk.
    size: u64,
    architecture: String,
    os: String,
    labels: BTreeMap<String, String>,
    /// Machines and snapshots that use the image.
    containers: usize,
}

/// A row of the table: one name of an image.
struct Line {
    repository: String,
    tag: String,
    id: String,
    created: String,
    size: String,
}

/// Prints the images, newest first.
pub(crate) fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let listing = engine.images()?.list()?;
    for path in &listing.set_aside {
        tracing::warn!(component = "images", path = %path.display(), "an image record could not be read and was set aside");
    }
    let matches = |image: &&Image| {
        let Some(part) = &args.name else { return true };
        image.names.iter().any(|name| name.contains(part.as_str()))
    };
    let images: Vec<_> = listing.images.iter().filter(matches).collect();
    if args.quiet {
        images.iter().try_for_each(|image| output::line(id(args, image)))?;
        return Ok(0);
    }
    let now = Timestamp::now();
    let lines = images.iter().flat_map(|image| lines(args, image, now));
    match Format::from_arguments(args.format.as_deref(), args.json) {
        Some(Format::Json) => {
            let users = ImageUsers::load(engine)?;
            output::json(&images.iter().map(|image| Row::new(image, &users)).collect::<Vec<_>>())?;
        }
        Some(Format::Text(template)) => {
            for line in lines {
                output::line(render(&template, &line.fields())?)?;
            }
        }
        None => output::table(&HEADINGS, &lines.map(Line::cells).collect::<Vec<_>>())?,
    }
    Ok(0)
}

fn id(args: &Args, image: &Image) -> String {
    if args.no_trunc { image.id.to_string() } else { image.short_id() }
}

fn lines(args: &Args, image: &Image, now: Timestamp) -> Vec<Line> {
    let line = |(repository, tag)| Line {
        repository,
        tag,
        id: id(args, image),
        created: image.created.map(|then| humanize::ago(then, now)).unwrap_or_default(),
        size: humanize::spaced_size(image.size),
    };
    let names: Vec<_> = image.names.iter().map(|name| split_name(name)).collect();
    if names.is_empty() {
        return vec![line((NONE.to_owned(), NONE.to_owned()))];
    }
    names.into_iter().map(line).collect()
}

/// `localhost/bb` and `latest`.
fn split_name(name: &str) -> (String, String) {
    match name.parse::<ImageName>() {
        Ok(parsed) => {
            let tag = parsed.tag().unwrap_or(NONE).to_owned();
            (format!("{}/{}", parsed.registry(), parsed.repository()), tag)
        }
        Err(_) => (name.to_owned(), NONE.to_owned()),
    }
}

impl Line {
    fn cells(self) -> Vec<String> {
        vec![self.repository, self.tag, self.id, self.created, self.size]
    }

    fn fields(&self) -> serde_json::Value {
        serde_json::json!({"Repository": self.repository, "Tag": self.tag, "ID": self.id, "Id": self.id,
                           "CreatedSince": self.created, "Created": self.created, "Size": self.size})
    }
}

impl Row {
    fn new(image: &Image, users: &ImageUsers) -> Self {
        Self {
            id: image.id.hex(),
            names: image.names.clone(),
            digest: image.digest.to_string(),
            created: image.created.map_or(0, Timestamp::as_second),
            created_at: image.created,
            size: image.size,
            architecture: image.architecture.clone(),
            os: image.os.clone(),
            labels: image.config.labels.clone(),
            containers: users.count(image),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_as_podman_splits_them() {
        let split = |name| {
            let (repository, tag) = split_name(name);
            format!("{repository} {tag}")
        };
        assert_eq!(split("localhost:5000/a/b:1"), "localhost:5000/a/b 1");
        assert_eq!(split("docker.io/library/nginx:latest"), "docker.io/library/nginx latest");
        let digest = format!("quay.io/x@sha256:{}", "a".repeat(64));
        assert_eq!(split(&digest), "quay.io/x <none>");
    }
}
