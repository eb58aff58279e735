//! Subjects of commits: at most 72 characters, since the commit that added this lint.

use std::path::Path;

use anyhow::Result;

use super::git;

/// What `git log --oneline` and mail clients show of a subject.
const MAX_CHARACTERS: usize = 72;
/// The file whose first commit is where the rule starts.
const SINCE: &str = "xtask/src/words/subjects.rs";

/// Subjects that are too long, with their commits.
pub(super) fn too_long(root: &Path) -> Result<Vec<String>> {
    let added = git(root, &["log", "--diff-filter=A", "--format=%H", "--", SINCE])?;
    // Before the lint itself is committed there is nothing to check.
    let Some(start) = added.lines().last() else { return Ok(Vec::new()) };
    let range = format!("{start}..HEAD");
    let log = git(root, &["log", "--no-merges", "--format=%h %s", &range])?;
    Ok(log.lines().filter_map(check).collect())
}

fn check(line: &str) -> Option<String> {
    let (commit, subject) = line.split_once(' ')?;
    let length = subject.chars().count();
    (length > MAX_CHARACTERS)
        .then(|| format!("commit {commit}: the subject has {length} characters, at most {MAX_CHARACTERS} are allowed: {subject}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_subjects_are_reported() {
        assert_eq!(check("1234567 vmm: restore O_NONBLOCK on inherited descriptors"), None);
        let long = format!("1234567 {}", "x".repeat(73));
        assert!(check(&long).is_some_and(|finding| finding.contains("73 characters")));
    }
}
