//! The language lint: no retired name comes back, and commit subjects stay readable.
//!
//! `docs/reference/glossary.md` defines mimeo's terms. The names below stood for them before and had to be decoded;
//! each error says what to use instead.

mod subjects;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use proc_macro2::{TokenStream, TokenTree};

/// Identifiers that were retired, and what to use instead.
const IDENTIFIERS: &[(&str, &str)] = &[
    ("Wish", "NetworkRequest, or options"),
    ("Wishes", "options"),
    ("CloneWishes", "CloneOverrides"),
    ("wish", "options, request"),
    ("wishes", "options, overrides"),
    ("Told", "an event, a report, metadata"),
    ("told", "what the value is: report, output"),
    ("Desk", "RequestDispatcher, ControlHandle"),
    ("desk", "dispatcher, handle"),
    ("besides", "divergent_pages"),
    ("stir", "reseed"),
    ("MERCY", "KILL_GRACE"),
    ("PATIENCE", "a name of its own: HELLO_TIMEOUT"),
    ("patience", "timeout"),
    ("Happening", "Event"),
    ("happening", "event"),
    ("furnish", "build_spec, hotplug, configure"),
    ("KeptProcess", "CheckpointedProcess"),
    ("keep_process", "checkpoint"),
    ("keeps_process", "can_checkpoint"),
    ("revive", "restore"),
    ("confine", "seccomp"),
    ("confined", "seccomp"),
    ("lay", "flatten, merge"),
    ("laid", "flattened"),
    ("LAST_WORDS", "EXIT_TIMEOUT"),
    ("last_words", "the exit reason"),
    ("rests", "leftovers"),
    ("MonitorError", "SupervisorError"),
    ("card", "nic, interface"),
    ("cards", "nics, interfaces"),
    ("nobodys", "placeholder"),
    ("of_nobody", "placeholder"),
    ("no_ones_network", "placeholder"),
    ("become_itself", "apply_identity"),
    ("take_on", "apply_identity"),
    ("Became", "AppliedIdentity"),
    ("judge", "validate, check_compatibility"),
    ("judge_version", "check_version"),
    ("bury", "mark_crashed"),
    ("reign", "run_init"),
    ("see_off", "serve_until_exit"),
    ("Departure", "ClientExit"),
    ("departure", "client exit"),
    ("Handed", "Handshake"),
    ("Door", "Listener"),
    ("Ground", "what it is: Layout"),
    ("Alone", "the guard's name: NetnsGuard"),
    ("Unfit", "UffdError"),
    ("Looks", "FileStamps"),
    ("Rehearsal", "WarmUp"),
    ("rehearsal", "warm_up"),
    ("rehearse", "warm_up"),
    ("Standstill", "PausedTime"),
    ("stand_still", "freeze, pause"),
    ("Script", "Restorer"),
    ("lend", "map scratch"),
    ("take_back", "unmap scratch"),
    ("CloneOrder", "CloneRequest"),
    ("ForkOrder", "ForkRequest"),
    ("DiskOrder", "DiskIdentification"),
];

/// Names that no type of ours has: they say nothing of what it is.
const TYPE_NAMES: &[&str] = &[
    "Of", "From", "What", "Why", "Here", "Told", "Wanted", "Place", "Did", "Held", "Go", "Hold", "Order",
    "Who", "Asked",
];

/// Names that no function of ours has: they do not say what it does to what.
const FUNCTION_NAMES: &[&str] = &["of", "judge", "told", "ask", "tell", "make", "keep"];

/// Words that no comment, text or page uses.
const PROSE: &[(&str, &str)] = &[
    ("anew", "again, or say what is new"),
    ("whoever", "name the subject"),
    ("so be it", "say what happens"),
    ("by chance", "random"),
    ("nobody's", "unassigned, placeholder"),
    ("stands still", "is paused, frozen"),
    ("stand still", "pause, freeze"),
    ("first filesystem", "initramfs"),
    ("begin as", "restore from"),
    ("begins as", "restores from"),
    ("no room", "no space, insufficient memory"),
];

/// Pages that quote retired words: what others hold on to, and what changed.
const QUOTING: &[&str] =
    &["xtask/src/words.rs", "docs/reference/glossary.md", "CHANGELOG.md", "COMPATIBILITY.md"];

/// Checks all tracked files and the commit subjects, and prints what it finds.
pub(crate) fn run() -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    if !root.join(".git").exists() {
        println!("this is no git checkout: names and commit subjects are not checked");
        return Ok(ExitCode::SUCCESS);
    }
    let mut findings = Vec::new();
    for file in tracked_files(&root)? {
        if QUOTING.contains(&file.as_str()) {
            continue;
        }
        // A tracked file that was deleted and not committed yet.
        let Ok(text) = std::fs::read_to_string(root.join(&file)) else { continue };
        if file.ends_with(".rs") {
            let found = retired_names(&text).with_context(|| format!("cannot parse {file}"))?;
            findings.extend(found.into_iter().map(|finding| format!("{file}:{finding}")));
        }
        findings.extend(retired_prose(&text).into_iter().map(|finding| format!("{file}:{finding}")));
    }
    findings.extend(subjects::too_long(&root)?);
    for finding in &findings {
        println!("{finding}");
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tracked_files(root: &Path) -> Result<Vec<String>> {
    let text = git(root, &["ls-files", "*.rs", "*.md", "Makefile", "*.toml"])?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// The output of a git command in the workspace.
fn git(root: &Path, arguments: &[&str]) -> Result<String> {
    let output =
        Command::new("git").arg("-C").arg(root).args(arguments).output().context("cannot run git")?;
    ensure!(
        output.status.success(),
        "git {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Retired identifiers in Rust source, with their lines. Comments and strings are not identifiers.
fn retired_names(source: &str) -> Result<Vec<String>> {
    let tokens = TokenStream::from_str(source).map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut findings = Vec::new();
    find_names(tokens, &mut findings);
    Ok(findings)
}

fn find_names(tokens: TokenStream, findings: &mut Vec<String>) {
    let mut keyword = String::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => find_names(group.stream(), findings),
            TokenTree::Ident(ident) => {
                let (name, line) = (ident.to_string(), ident.span().start().line);
                if let Some(instead) = retired(&name, &keyword) {
                    findings.push(format!("{line}: `{name}` is retired: use {instead}"));
                }
                keyword = name;
                continue;
            }
            _ => {}
        }
        keyword.clear();
    }
}

/// What to use in place of `name`, which stands behind the word `before`.
fn retired(name: &str, before: &str) -> Option<&'static str> {
    if matches!(before, "struct" | "enum" | "trait" | "type" | "union") && TYPE_NAMES.contains(&name) {
        return Some("a name that says what the type is");
    }
    if before == "fn" && FUNCTION_NAMES.contains(&name) {
        return Some("a name that says what the function does to what");
    }
    IDENTIFIERS.iter().find(|(retired, _)| *retired == name).map(|(_, instead)| *instead)
}

fn retired_prose(text: &str) -> Vec<String> {
    let lines = text.lines().enumerate();
    let found = lines.flat_map(|(number, line)| {
        let line = line.to_lowercase();
        let matching = PROSE.iter().filter(move |(word, _)| contains_word(&line, word));
        matching.map(move |(word, instead)| format!("{}: \"{word}\": {instead}", number + 1))
    });
    found.collect()
}

fn contains_word(line: &str, word: &str) -> bool {
    let is_inside = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    line.match_indices(word).any(|(start, _)| {
        let bytes = line.as_bytes();
        !is_inside(start.checked_sub(1).and_then(|before| bytes.get(before)))
            && !is_inside(bytes.get(start + word.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retired_names_are_found_in_code_and_not_in_comments_or_strings() {
        let source = "// told\nstruct Here;\nfn ask() { let besides = \"told\"; }\nuse std::convert::From;\nmacro!(PATIENCE);";
        let found = retired_names(source).expect("parsed");
        let lines: Vec<_> =
            found.iter().map(|finding| finding.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines, ["2: `Here`", "3: `ask`", "3: `besides`", "5: `PATIENCE`"]);
    }

    #[test]
    fn retired_words_are_found_as_words() {
        assert_eq!(retired_prose("a line\nIt begins Anew.").len(), 1);
        assert!(retired_prose("a newer renewal").is_empty());
    }
}
