//! `mimeo search`: searches a registry for repositories, or lists the tags of one.

use mimeo_image::SearchResult;
use serde_json::{Value, json};

use super::registry::RegistryArgs;
use crate::error::CliError;
use crate::output;
use crate::template::Format;

/// podman's longest description.
const DESCRIPTION_WIDTH: usize = 44;
/// podman's mark of an official or automated repository.
const YES: &str = "[OK]";

/// Arguments of `mimeo search`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo search --filter is-official alpine\n  mimeo search registry.example.org/team\n  mimeo search --list-tags quay.io/fedora/fedora"
)]
pub(crate) struct Args {
    /// Show stars, and whether a repository is official and automated
    #[arg(long)]
    compatible: bool,
    /// Only repositories that match: stars=N, is-official or is-automated; can be repeated
    #[arg(short, long, value_name = "KEY[=VALUE]", value_delimiter = ',')]
    filter: Vec<String>,
    /// `json`, or a template of Go's text/template with fields such as {{.Name}} and {{.Stars}}
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// Largest number of results; 0 for 25
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: usize,
    /// List the tags of the repository
    #[arg(long)]
    list_tags: bool,
    /// Do not truncate descriptions
    #[arg(long)]
    no_trunc: bool,
    #[command(flatten)]
    registry: RegistryArgs,
    /// User name and password, instead of those of the login file
    #[arg(long, value_name = "USER:PASSWORD")]
    creds: Option<String>,
    /// [REGISTRY/]TEXT; without a registry, docker.io is searched. REGISTRY/ lists all of its repositories
    #[arg(value_name = "TERM")]
    term: String,
}

/// Prints what was found; nothing, if nothing was.
pub(crate) async fn run(args: Args) -> Result<i32, CliError> {
    if args.term.is_empty() {
        return Err(CliError::usage("cannot search for an empty term: give a text, or REGISTRY/"));
    }
    let format = Format::from_arguments(args.format.as_deref(), args.json);
    if args.list_tags {
        return print_tags(&args, format).await;
    }
    let filters = args.filter.iter().map(|text| text.parse()).collect::<Result<Vec<Filter>, _>>()?;
    let options = args.registry.options(args.creds.as_deref())?;
    let mut found = mimeo_image::search(&args.term, args.limit, &options).await?;
    found.retain(|result| filters.iter().all(|filter| filter.matches(result)));
    let rows: Vec<_> = found.iter().map(|result| row(result, args.no_trunc)).collect();
    match format {
        Some(Format::Json) => output::json(&rows)?,
        Some(Format::Text(text)) => text.print(&rows, &[])?,
        None if rows.is_empty() => {}
        None => print_table(&rows, args.compatible)?,
    }
    Ok(0)
}

async fn print_tags(args: &Args, format: Option<Format>) -> Result<i32, CliError> {
    if !args.filter.is_empty() {
        return Err(CliError::usage("filters are not applicable to list tags result"));
    }
    let options = args.registry.options(args.creds.as_deref())?;
    let listed = mimeo_image::list_tags(&args.term, args.limit, &options).await?;
    let rows = listed.tags.iter().map(|tag| json!({ "Name": listed.name, "Tag": tag }));
    match format {
        Some(Format::Json) => output::json(&[json!({ "Name": listed.name, "Tags": listed.tags })])?,
        Some(Format::Text(text)) => text.print(&rows.collect::<Vec<_>>(), &[])?,
        None => {
            let rows = listed.tags.iter().map(|tag| vec![listed.name.clone(), tag.clone()]);
            output::table(&["NAME", "TAG"], &rows.collect::<Vec<_>>())?;
        }
    }
    Ok(0)
}

/// A result with podman's field names.
fn row(result: &SearchResult, is_full: bool) -> Value {
    let mark = |is: bool| if is { YES } else { "" };
    json!({
        "Index": result.index,
        "Name": result.name,
        "Description": if is_full { result.description.clone() } else { shorten(&result.description) },
        "Stars": result.stars,
        "Official": mark(result.is_official),
        "Automated": mark(result.is_automated),
        "Tag": "",
    })
}

fn print_table(rows: &[Value], is_compatible: bool) -> Result<(), CliError> {
    let headings = ["NAME", "DESCRIPTION", "STARS", "OFFICIAL", "AUTOMATED"];
    let fields = ["Name", "Description", "Stars", "Official", "Automated"];
    let count = if is_compatible { headings.len() } else { 2 };
    let cell = |row: &Value, field: &str| match &row[field] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let cells = |row: &Value| fields[..count].iter().map(|field| cell(row, field)).collect::<Vec<_>>();
    output::table(&headings[..count], &rows.iter().map(cells).collect::<Vec<_>>())
}

fn shorten(text: &str) -> String {
    let text = text.replace('\n', " ");
    if text.chars().count() <= DESCRIPTION_WIDTH {
        return text;
    }
    text.chars().take(DESCRIPTION_WIDTH).chain("...".chars()).collect()
}

/// A condition on results.
#[derive(Debug, PartialEq, Eq)]
enum Filter {
    /// At least so many stars.
    Stars(u64),
    Official(bool),
    Automated(bool),
}

impl std::str::FromStr for Filter {
    type Err = CliError;

    fn from_str(text: &str) -> Result<Self, CliError> {
        let (key, value) = text.split_once('=').unwrap_or((text, "true"));
        let invalid = |kind: &str| CliError::usage(format!("incorrect value {value:?} for {kind} filter"));
        match key {
            "stars" => value.parse().map(Self::Stars).map_err(|_| invalid("stars")),
            "is-official" => value.parse().map(Self::Official).map_err(|_| invalid("is-official")),
            "is-automated" => value.parse().map(Self::Automated).map_err(|_| invalid("is-automated")),
            _ => Err(CliError::usage(format!("invalid filter type {text:?}"))),
        }
    }
}

impl Filter {
    fn matches(&self, result: &SearchResult) -> bool {
        match *self {
            Self::Stars(least) => result.stars >= least,
            Self::Official(is) => result.is_official == is,
            Self::Automated(is) => result.is_automated == is,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_parsed_as_podmans() {
        let parsed = |text: &str| text.parse::<Filter>().map_err(|error| error.to_string());
        assert_eq!(parsed("stars=3"), Ok(Filter::Stars(3)));
        assert_eq!(parsed("is-official"), Ok(Filter::Official(true)));
        assert_eq!(parsed("is-automated=false"), Ok(Filter::Automated(false)));
        for bad in ["stars", "stars=x", "stars=-1", "is-official=maybe", "bad=1", ""] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn long_descriptions_are_shortened() {
        assert_eq!(shorten("short"), "short");
        assert_eq!(shorten(&"é".repeat(45)), format!("{}...", "é".repeat(44)));
    }
}
