//! `mimeo images`: lists local images.

mod filter;
mod sort;

use std::collections::BTreeMap;

use jiff::Timestamp;
use mimeo_image::{Image, ImageName};
use serde::Serialize;

use super::ImageUsers;
use crate::backend::Host;
use crate::error::CliError;
use crate::template::Format;
use crate::{humanize, output, view};
use filter::Filters;
use sort::SortKey;

/// podman's headings of the fields of `--format`.
const FIELD_HEADINGS: [(&str, &str); 5] = [
    ("ID", "IMAGE ID"),
    ("Id", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("Created", "CREATED"),
    ("CreatedAt", "CREATED AT"),
];
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
    /// Do not print the heading
    #[arg(short, long)]
    noheading: bool,
    /// Also print the digests of the manifests
    #[arg(long)]
    digests: bool,
    /// Accepted for compatibility with podman: there are no intermediate images
    #[arg(short, long)]
    all: bool,
    /// Only matching images: reference=, id=, label=, dangling=, before=, since=, until=, containers=,
    /// readonly= or intermediate=; can be repeated
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Sort by this instead of the time of creation
    #[arg(long, value_enum, default_value = "created", value_name = "KEY")]
    sort: SortKey,
    /// `json`, or a template of Go's text/template with fields such as {{.Repository}}, {{.Tag}} and {{.ID}}
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
    digest: String,
    id: String,
    created: String,
    created_at: String,
    size: String,
    bytes: u64,
    time: Option<Timestamp>,
    labels: BTreeMap<String, String>,
}

/// Prints the images, newest first.
pub(crate) async fn run(host: &Host, args: &Args) -> Result<i32, CliError> {
    let listing = host.images().await?;
    for path in &listing.set_aside {
        tracing::warn!(component = "images", path = %path.display(), "an image record could not be read and was set aside");
    }
    let matches = |image: &&Image| {
        let Some(part) = &args.name else { return true };
        image.names.iter().any(|name| name.contains(part.as_str()))
    };
    let users = ImageUsers::from_records(host.machines().await?, host.snapshots().await?);
    let filters = Filters::parse(&args.filter, &listing.images)?;
    let chosen = |image: &&Image| matches(image) && filters.accept(image, users.count(image));
    let images: Vec<_> = listing.images.iter().filter(chosen).collect();
    print(args, &images, &users)?;
    Ok(0)
}

fn print(args: &Args, images: &[&Image], users: &ImageUsers) -> Result<(), CliError> {
    if args.quiet {
        return images.iter().try_for_each(|image| output::line(id(args, image)));
    }
    let now = Timestamp::now();
    let mut lines: Vec<_> = images.iter().flat_map(|image| lines(args, image, now)).collect();
    sort::sort(&mut lines, args.sort);
    match Format::from_arguments(args.format.as_deref(), args.json) {
        Some(Format::Json) => {
            output::json(&images.iter().map(|image| Row::new(image, users)).collect::<Vec<_>>())
        }
        Some(Format::Text(text)) => {
            let text = if args.noheading { text.without_heading() } else { text };
            text.print(&lines.iter().map(Line::fields).collect::<Vec<_>>(), &FIELD_HEADINGS)
        }
        None => print_table(args, lines),
    }
}

fn print_table(args: &Args, lines: Vec<Line>) -> Result<(), CliError> {
    let mut heading = vec!["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"];
    if args.digests {
        heading.insert(2, "DIGEST");
    }
    let heading = heading.into_iter().map(str::to_owned).collect();
    let heading = (!args.noheading).then_some(heading);
    let rows = lines.into_iter().map(|line| line.cells(args.digests));
    output::bytes(output::align(&heading.into_iter().chain(rows).collect::<Vec<_>>()).as_bytes())
}

fn id(args: &Args, image: &Image) -> String {
    if args.no_trunc { image.id.to_string() } else { image.short_id() }
}

fn lines(args: &Args, image: &Image, now: Timestamp) -> Vec<Line> {
    let line = |(repository, tag)| Line {
        repository,
        tag,
        digest: image.digest.to_string(),
        id: id(args, image),
        created_at: image.created.map(view::go_time).unwrap_or_default(),
        bytes: image.size,
        time: image.created,
        labels: image.config.labels.clone(),
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
    fn cells(self, digests: bool) -> Vec<String> {
        let mut cells = vec![self.repository, self.tag];
        cells.extend(digests.then_some(self.digest));
        cells.extend([self.id, self.created, self.size]);
        cells
    }

    fn fields(&self) -> serde_json::Value {
        serde_json::json!({
            "Repository": self.repository, "Tag": self.tag, "Digest": self.digest, "ID": self.id, "Id": self.id,
            "CreatedSince": self.created, "Created": self.created, "CreatedAt": self.created_at,
            "CreatedTime": self.created_at, "Size": self.size, "VirtualSize": self.bytes, "Labels": self.labels,
        })
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
