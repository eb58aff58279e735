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
    let mut lines = environment(variables, directory, ordinary);
    let become_user = if ordinary { "setpriv --reuid 1000 --regid 1000 --clear-groups -- " } else { "" };
    lines.push(format!("exec {become_user}{}\n", line(command)));
    lines.join("\n")
}

/// A script that sets environment variables and executes commands as root, one after the other. It fails if one of them does.
pub(super) fn script_of_all(
    variables: &[(String, String)],
    directory: &str,
    commands: &[Vec<String>],
) -> String {
    let mut lines = environment(variables, directory, false);
    lines.push("code=0".to_owned());
    lines.extend(commands.iter().map(|command| format!("{} || code=$?", line(command))));
    lines.push("exit $code\n".to_owned());
    lines.join("\n")
}

fn line(command: &[String]) -> String {
    command.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

fn environment(variables: &[(String, String)], directory: &str, ordinary: bool) -> Vec<String> {
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
    lines
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

    #[test]
    fn all_commands_are_executed_and_one_that_fails_counts() {
        let command = |line: &str| ["sh", "-c", line].map(str::to_owned).to_vec();
        let commands = [command("echo $X; exit 3"), command("echo two")];
        let script = super::script_of_all(&[("X".to_owned(), "one".to_owned())], "/", &commands);
        let output = Command::new("sh").arg("-c").arg(script).output().expect("sh runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "one\ntwo\n");
        assert_eq!(output.status.code(), Some(3));
    }
}
