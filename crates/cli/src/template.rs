//! podman's `--format`: `json`, or a template in the language of Go's text/template,
//! with podman's functions. A template that begins with `table` prints a heading and aligned columns.

mod blocks;
mod data;
mod functions;
mod table;

use gotmpl::{MissingKey, Template, TemplateError};
use serde_json::Value;

use crate::error::CliError;
use crate::output;

/// Overrides of headings: a field, and the heading of its column. Other headings are the field's words in capitals.
pub(crate) type Headings = [(&'static str, &'static str)];

/// How to print a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Format {
    /// As JSON.
    Json,
    /// As this template.
    Text(Text),
}

/// A template of `--format`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    source: String,
    /// Whether to print a heading and aligned columns.
    table: bool,
    heading: bool,
}

impl Format {
    /// The format that `--format` and `--json` select.
    pub(crate) fn from_arguments(format: Option<&str>, json: bool) -> Option<Self> {
        match format {
            Some(text) if is_json(text) => Some(Self::Json),
            Some(text) => Some(Self::Text(Text::new(text))),
            None => json.then_some(Self::Json),
        }
    }
}

/// Whether the format is `json`, or `{{json .}}`, which podman treats alike.
fn is_json(text: &str) -> bool {
    let text = text.trim();
    let action = text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
    text == "json" || action.is_some_and(|action| matches!(action.trim(), "json" | "json ."))
}

impl Text {
    fn new(text: &str) -> Self {
        let table = text.strip_prefix("table ").map(str::trim_start);
        Self { source: unescape(table.unwrap_or(text)), table: table.is_some(), heading: true }
    }

    /// Omits the heading of a table.
    pub(crate) fn without_heading(self) -> Self {
        Self { heading: false, ..self }
    }

    /// Prints the rows: each through the template, or all at once through a template that ranges over them.
    pub(crate) fn print(&self, rows: &[Value], headings: &Headings) -> Result<(), CliError> {
        output::bytes(self.render(rows, headings)?.as_bytes())
    }

    fn render(&self, rows: &[Value], headings: &Headings) -> Result<String, CliError> {
        let template = parse(&self.source)?;
        let body = if ranges_over_rows(&self.source) {
            let text = execute(&template, &Value::Array(rows.to_vec()))?;
            if text.is_empty() || text.ends_with('\n') { text } else { text + "\n" }
        } else {
            let lines = rows.iter().map(|row| Ok(execute(&template, row)? + "\n"));
            lines.collect::<Result<String, CliError>>()?
        };
        if !self.table {
            return Ok(body);
        }
        let first = match self.heading {
            true => table::heading(&self.source, headings)? + "\n",
            false => String::new(),
        };
        Ok(table::align(&(first + &body)))
    }
}

/// Whether the template ranges over all rows itself: `{{range .}}…`.
fn ranges_over_rows(source: &str) -> bool {
    let Some(action) = source.strip_prefix("{{").and_then(|rest| rest.split_once("}}")) else { return false };
    let action = action.0.trim_matches(|c: char| c == '-' || c.is_whitespace());
    action.strip_prefix("range ").is_some_and(|over| over.trim() == "." || over.ends_with(":= ."))
}

/// Replaces podman's escapes `\t` and `\n` outside of actions: within one, Go's own syntax applies.
fn unescape(text: &str) -> String {
    let mut result = String::new();
    for (at, part) in text.split("{{").enumerate() {
        let (action, literal) = match part.split_once("}}") {
            Some((action, literal)) if at > 0 => (format!("{{{{{action}}}}}"), literal),
            _ if at > 0 => (format!("{{{{{part}"), ""),
            _ => (String::new(), part),
        };
        result.push_str(&action);
        result.push_str(&literal.replace("\\t", "\t").replace("\\n", "\n"));
    }
    result
}

fn parse(source: &str) -> Result<Template, CliError> {
    let refused = |reason: String| CliError::usage(format!("cannot parse --format {source:?}: {reason}"));
    let template = Template::new("format").missing_key(MissingKey::Error).funcs(functions::all());
    let template = template.parse(source).map_err(|error| refused(error.to_string()))?;
    blocks::check(source).map_err(refused)?;
    Ok(template)
}

fn execute(template: &Template, value: &Value) -> Result<String, CliError> {
    let text = template.execute_to_string(&data::to_template(value));
    text.map_err(|error| match error {
        TemplateError::MissingKey { key } => CliError::usage(format!(
            "cannot print --format: there is no field {key:?} (the fields are those of --format json; a key \
             that may be absent is read with index, as in {{{{index .Config.Labels \"x\"}}}})"
        )),
        other => CliError::usage(format!("cannot print --format: {other}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn text(template: &str, value: &Value) -> Result<String, CliError> {
        let text = Text::new(template);
        execute(&parse(&text.source)?, value)
    }

    fn machine() -> Value {
        json!({"Id": "ab", "Name": "web one", "State": {"Pid": 5, "Running": true}, "Args": ["a", "b"],
               "Labels": {"x": "y"}, "Ports": {"80/tcp": [{"HostPort": "8080"}]}, "None": null})
    }

    #[test]
    fn actions_of_everyday_scripts_print_what_go_prints() {
        let machine = machine();
        for (template, expected) in [
            ("{{.Id}} {{ .State.Pid }}{{.State.Running}}", "ab 5true"),
            ("{{.Args}} {{json .Args}} {{.State}}", "[a b] [\"a\",\"b\"] map[Pid:5 Running:true]"),
            ("plain", "plain"),
            ("{{index .Labels \"x\"}}{{index .Labels \"nope\"}}{{.Labels.x}}", "yy"),
            ("{{(index (index .Ports \"80/tcp\") 0).HostPort}}", "8080"),
            ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
            ("{{range $p, $c := .Ports}}{{$p}}={{(index $c 0).HostPort}} {{end}}", "80/tcp=8080 "),
            ("{{range .Args}}<{{.}}>{{end}}{{range .None}}x{{else}}-{{end}}", "<a><b>-"),
            ("{{with .State}}{{.Pid}}{{end}}", "5"),
            ("{{len .Args}} {{join .Args \",\"}} {{index (split \"a-b\" \"-\") 1}}", "2 a,b b"),
            (
                "{{upper .Name}}|{{lower \"AB\"}}|{{title .Name}}|{{truncate .Name 3}}|{{pad \"x\" 1 2}}",
                "WEB ONE|ab|Web One|web| x  ",
            ),
            ("{{printf \"%-4s|%03d\" .Id .State.Pid}}", "ab  |005"),
            ("{{.Name | upper | printf \"%q\"}}", "\"WEB ONE\""),
            ("{{if and (eq .Id \"ab\") (not (ne .State.Pid 5)) (or .None .Id)}}y{{end}}", "y"),
            ("{{$n := .Name}}{{println $n}}", "web one\n"),
            ("a\\tb\\n{{\"c\\td\"}}", "a\tb\nc\td"),
            ("{{- .Id -}}  x {{/* not shown */}}", "abx "),
            ("{{json .None}} {{json .State}}", "null {\"Pid\":5,\"Running\":true}"),
        ] {
            assert_eq!(
                text(template, &machine).unwrap_or_else(|error| error.to_string()),
                expected,
                "{template}"
            );
        }
    }

    #[test]
    fn bad_templates_are_refused_with_the_reason() {
        let refusal = |template| text(template, &machine()).expect_err(template).to_string();
        assert!(refusal("{{.Nope}}").contains("there is no field \"Nope\""));
        for bad in [
            "{{.Id",
            "{{range .Args}}",
            "{{nope .Id}}",
            "{{end}}",
            "{{index .Args 7}}",
            "{{join 1 2}}",
            "{{truncate}}",
        ] {
            assert!(refusal(bad).starts_with("cannot p"), "{bad}: {}", refusal(bad));
        }
    }

    #[test]
    fn json_has_three_spellings() {
        for json in ["json", "{{json .}}", " {{ json . }} "] {
            assert_eq!(Format::from_arguments(Some(json), false), Some(Format::Json), "{json}");
        }
        assert!(matches!(Format::from_arguments(Some("{{json .Id}}"), false), Some(Format::Text(_))));
    }

    #[test]
    fn a_table_has_a_heading_and_aligned_columns() {
        let rows = [
            json!({"ID": "a", "CreatedAt": "yesterday", "Labels": {}}),
            json!({"ID": "bb", "CreatedAt": "x", "Labels": {}}),
        ];
        let rendered =
            |template: &str| Text::new(template).render(&rows, &[("ID", "CONTAINER ID")]).expect(template);
        assert_eq!(
            rendered("table {{.ID}}\\t{{.CreatedAt}}"),
            "CONTAINER ID  CREATED AT\na             yesterday\nbb            x\n"
        );
        assert_eq!(rendered("{{.ID}}\\t{{.CreatedAt}}"), "a\tyesterday\nbb\tx\n");
        assert_eq!(rendered("{{range .}}{{.ID}},{{end}}"), "a,bb,\n");
        assert_eq!(rendered("table {{index .Labels \"x\"}}").lines().next(), Some("LABELS"));
        assert_eq!(Text::new("table {{.ID}}").render(&[], &[]).expect("no rows"), "ID\n");
        assert_eq!(rendered("table {{.ID}}{{if eq .CreatedAt \"x\"}}!{{end}}"), "CONTAINER ID\na\nbb!\n");
        let bare = Text::new("table {{.ID}}\\t{{.CreatedAt}}").without_heading();
        assert_eq!(bare.render(&rows, &[]).expect("rows"), "a           yesterday\nbb          x\n");
    }

    proptest! {
        #[test]
        fn any_text_is_rendered_or_refused(source in ".{0,60}", action in "[a-z .$|\"(){}0-9:=-]{0,30}") {
            let template = format!("{source}{{{{{action}}}}}");
            if let Err(error) = text(&template, &machine()) {
                prop_assert!(error.to_string().starts_with("cannot p"));
            }
        }

        #[test]
        fn text_without_actions_is_unchanged(source in "[^{\\\\]{0,60}") {
            prop_assert_eq!(text(&source, &machine()).expect("text"), source);
        }
    }
}
