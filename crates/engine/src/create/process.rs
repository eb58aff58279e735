//! The container's process: the image's settings, overridden by the machine's spec.

use std::collections::BTreeMap;

use mimeo_agent_protocol::message::{Process, TerminalSize};
use mimeo_image::ImageConfig;

use crate::machine::MachineSpec;
use crate::stage::StageError;

/// podman's default, for images that set no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The size of a terminal that no client is attached to.
const DEFAULT_TERMINAL_SIZE: TerminalSize = TerminalSize { rows: 24, cols: 80 };

/// The container's own process.
pub(crate) fn container_process(spec: &MachineSpec, image: &ImageConfig) -> Result<Process, StageError> {
    Ok(Process {
        args: args(spec, image)?,
        env: env(spec, image),
        cwd: first_non_empty(spec.workdir.as_deref(), &image.workdir, "/"),
        user: first_non_empty(spec.user.as_deref(), &image.user, ""),
        terminal: spec.tty.then_some(DEFAULT_TERMINAL_SIZE),
        stdin: spec.interactive,
        init: spec.init,
        privileges: Some(spec.container.privileges()),
        ..Process::default()
    })
}

/// An entrypoint in the spec replaces the image's command too.
fn args(spec: &MachineSpec, image: &ImageConfig) -> Result<Vec<String>, StageError> {
    let (entrypoint, cmd) = match &spec.entrypoint {
        Some(own) => (own.clone(), &[][..]),
        None => (image.entrypoint.clone(), &image.cmd[..]),
    };
    let rest = if spec.command.is_empty() { cmd } else { &spec.command[..] };
    let args: Vec<String> =
        entrypoint.into_iter().filter(|word| !word.is_empty()).chain(rest.iter().cloned()).collect();
    if args.is_empty() { Err(StageError::NoCommand) } else { Ok(args) }
}

fn env(spec: &MachineSpec, image: &ImageConfig) -> BTreeMap<String, String> {
    let mut env = default_env(spec, image);
    let merged = spec.env_merge.iter().map(|(name, value)| (name.clone(), expand(value, &env)));
    let merged: Vec<_> = merged.collect();
    env.retain(|name, _| !spec.unset_all_env && !spec.unset_env.contains(name));
    env.extend(merged);
    env.extend(spec.env.clone());
    env
}

/// Replaces `${NAME}` and `$NAME` by the variable's value; an unset variable is empty.
fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut parts = text.split('$');
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = match part.strip_prefix('{').and_then(|braced| braced.split_once('}')) {
            Some(split) => split,
            None => {
                part.split_at(part.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(part.len()))
            }
        };
        result.push_str(env.get(name).map_or("", String::as_str));
        result.push_str(rest);
    }
    result
}

/// The variables that mimeo and the image set.
fn default_env(spec: &MachineSpec, image: &ImageConfig) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([
        ("PATH".to_owned(), DEFAULT_PATH.to_owned()),
        ("container".to_owned(), "mimeo".to_owned()),
    ]);
    if spec.tty {
        env.insert("TERM".to_owned(), "xterm".to_owned());
    }
    let pairs = image.env.iter().filter_map(|pair| pair.split_once('='));
    env.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    env
}

fn first_non_empty(own: Option<&str>, image: &str, default: &str) -> String {
    own.or(Some(image)).filter(|text| !text.is_empty()).unwrap_or(default).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(entrypoint: &[&str], cmd: &[&str]) -> ImageConfig {
        let strings = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        ImageConfig { entrypoint: strings(entrypoint), cmd: strings(cmd), ..ImageConfig::default() }
    }

    fn run(entrypoint: Option<&[&str]>, command: &[&str], image: &ImageConfig) -> Vec<String> {
        let mut spec = MachineSpec::new("x");
        spec.entrypoint = entrypoint.map(|words| words.iter().map(ToString::to_string).collect());
        spec.command = command.iter().map(ToString::to_string).collect();
        container_process(&spec, image).map(|process| process.args).unwrap_or_default()
    }

    #[test]
    fn entrypoint_and_command_combine_as_in_podman() {
        let image = image(&["entry"], &["cmd"]);
        assert_eq!(run(None, &[], &image), ["entry", "cmd"]);
        assert_eq!(run(None, &["user"], &image), ["entry", "user"]);
        assert_eq!(run(Some(&["e"]), &[], &image), ["e"]);
        assert_eq!(run(Some(&["e"]), &["user"], &image), ["e", "user"]);
        assert_eq!(run(Some(&[""]), &["user"], &image), ["user"]);
        assert!(run(Some(&[""]), &[], &image).is_empty());
    }

    #[test]
    fn the_users_environment_overrides_the_images() {
        let mut image = image(&[], &["x"]);
        image.env = vec!["A=image".into(), "B=image".into()];
        let mut spec = MachineSpec::new("x");
        spec.env.insert("A".into(), "user".into());
        let process = container_process(&spec, &image).expect("a process");
        assert_eq!(process.env["A"], "user");
        assert_eq!(process.env["B"], "image");
        assert_eq!(process.env["PATH"], DEFAULT_PATH);
    }
}
