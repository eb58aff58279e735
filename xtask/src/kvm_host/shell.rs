//! Scripts for the emulated host's shell.

/// Quotes a word for a shell.
pub(super) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A script that sets environment variables and executes a command, as root or as an ordinary user.
pub(super) fn script(
    variables: &[(String, String)],
    directory: &str,
    ordinary: bool,
    command: &[String],
) -> String {
    let mut lines =
        vec!["export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
    let home: &[_] = if ordinary {
        &[("HOME", "/home/user"), ("XDG_RUNTIME_DIR", "/run/user/1000")]
    } else {
        &[("HOME", "/root")]
    };
    lines.extend(home.iter().map(|(name, value)| format!("export {name}={value}")));
    lines.extend(variables.iter().map(|(name, value)| format!("export {name}={}", quote(value))));
    lines.push(format!("cd {}", quote(directory)));
    let become_user = if ordinary { "setpriv --reuid 1000 --regid 1000 --clear-groups -- " } else { "" };
    let words: Vec<_> = command.iter().map(|word| quote(word)).collect();
    lines.push(format!("exec {become_user}{}\n", words.join(" ")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    #[test]
    fn quoted_words_reach_the_command_unchanged() {
        let words: Vec<_> = ["printf", "%s|", "a b", "it's", "$HOME", "\\", ""].map(str::to_owned).into();
        let script = super::script(&[("X".to_owned(), "1".to_owned())], "/", false, &words);
        let output = Command::new("sh").arg("-c").arg(script).output().expect("sh runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "a b|it's|$HOME|\\||");
    }
}
