//! `--sysctl`.

use std::collections::BTreeMap;

use crate::error::CliError;

/// Parses `NAME=VALUE`; the last of several values counts.
pub(super) fn parse_all(texts: &[String]) -> Result<BTreeMap<String, String>, CliError> {
    texts.iter().map(|text| parse(text)).collect()
}

fn parse(text: &str) -> Result<(String, String), CliError> {
    let is_name = |name: &str| name.split('.').all(|part| !part.is_empty() && !part.starts_with('/'));
    match text.split_once('=') {
        Some((name, value)) if is_name(name) && !value.contains('\0') => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err(CliError::usage(format!("--sysctl {text:?} is not NAME=VALUE"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_a_name_and_a_value() {
        let parsed = |text: &str| parse(text).ok();
        assert_eq!(parsed("a.b=1 2"), Some(("a.b".into(), "1 2".into())));
        for bad in ["", "a", "=1", "a..b=1", ".a=1", "../a=1", "a./b=1"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }
}
