//! os-release: which system it is.

use serde::{Deserialize, Serialize};

use crate::tree::Tree;

const PATHS: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

/// What os-release says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OsRelease {
    /// `ID`, such as `debian`.
    pub id: Option<String>,
    /// `VERSION_ID`, such as `12`.
    pub version_id: Option<String>,
    /// `PRETTY_NAME`, such as `Debian GNU/Linux 12 (bookworm)`.
    pub pretty_name: Option<String>,
}

pub(crate) fn exists(tree: &Tree) -> bool {
    tree.any_exists(&PATHS)
}

pub(super) fn read(tree: &Tree) -> Option<OsRelease> {
    PATHS.iter().find_map(|path| tree.text(path)).map(|text| parse(&text))
}

fn parse(text: &str) -> OsRelease {
    let value = |key: &str| {
        let mut values = text.lines().filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
        values.next_back().map(unquote).filter(|value| !value.is_empty())
    };
    OsRelease { id: value("ID"), version_id: value("VERSION_ID"), pretty_name: value("PRETTY_NAME") }
}

/// Removes a shell's quotes and backslashes.
fn unquote(value: &str) -> String {
    let value = value.trim();
    let inner = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    inner.unwrap_or(value).replace('\\', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_without_quotes() {
        let text = "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID='12'\nID=debian\n\
                    ID_LIKE=other\n";
        let expected = OsRelease {
            id: Some("debian".to_owned()),
            version_id: Some("12".to_owned()),
            pretty_name: Some("Debian GNU/Linux 12 (bookworm)".to_owned()),
        };
        assert_eq!(parse(text), expected);
        assert_eq!(parse("ID=\nnonsense\0"), OsRelease::default());
    }
}
