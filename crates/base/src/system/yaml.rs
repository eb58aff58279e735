//! Lists in cloud-init's YAML configuration, in the two forms in which people write them.

/// The list with this key: `key: [a, b]`, or `key:` and a line `- a` for each item. The last one counts.
pub(super) fn list(text: &str, key: &str) -> Option<Vec<String>> {
    let mut found = None;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(value) = line.trim_start().strip_prefix(key).and_then(|rest| rest.strip_prefix(':')) else {
            continue;
        };
        let value = without_comment(value);
        let mut items = Vec::new();
        if value.is_empty() {
            while let Some(item) = lines.next_if(|line| is_item(line)) {
                items.push(item.trim().trim_start_matches('-'));
            }
        } else {
            items.extend(value.trim_start_matches('[').trim_end_matches(']').split(','));
        }
        found = Some(items.into_iter().map(plain).filter(|item| !item.is_empty()).collect());
    }
    found
}

fn is_item(line: &str) -> bool {
    line.trim_start().starts_with("- ")
}

fn without_comment(text: &str) -> &str {
    text.split_once('#').map_or(text, |(before, _)| before).trim()
}

fn plain(item: &str) -> String {
    without_comment(item).trim_matches(['"', '\'']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_list_are_read() {
        let expected = Some(vec!["NoCloud".to_owned(), "None".to_owned()]);
        assert_eq!(list("datasource_list: [ NoCloud, None ] # two\n", "datasource_list"), expected);
        assert_eq!(
            list("a: 1\n  datasource_list:\n    - NoCloud\n    - 'None'\nb: 2\n", "datasource_list"),
            expected
        );
        assert_eq!(list("x: [a]\n#datasource_list: [b]\n", "datasource_list"), None);
        assert_eq!(list("l: [a]\nl: []\n", "l"), Some(vec![]));
    }
}
