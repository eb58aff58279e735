//! What a container runs: the image's settings with the person's over them.

use std::collections::BTreeMap;

use mimeo_agent_protocol::message::{Process, TerminalSize};
use mimeo_image::ImageConfig;

use crate::machine::MachineSpec;
use crate::stage::StageError;

/// podman's, for images that say none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The size of a terminal that nobody is attached to.
const SIZE: TerminalSize = TerminalSize { rows: 24, cols: 80 };

/// The container's own process.
pub(crate) fn describe(spec: &MachineSpec, image: &ImageConfig) -> Result<Process, StageError> {
    Ok(Process {
        args: args(spec, image)?,
        env: env(spec, image),
        cwd: first(spec.workdir.as_deref(), &image.workdir, "/"),
        user: first(spec.user.as_deref(), &image.user, ""),
        terminal: spec.tty.then_some(SIZE),
        stdin: spec.interactive,
        init: spec.init,
        aside: false,
    })
}

/// An entrypoint of the person's own replaces the image's command too.
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
    let mut env =
        BTreeMap::from([("PATH".to_owned(), PATH.to_owned()), ("container".to_owned(), "mimeo".to_owned())]);
    if spec.tty {
        env.insert("TERM".to_owned(), "xterm".to_owned());
    }
    let pairs = image.env.iter().filter_map(|pair| pair.split_once('='));
    env.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    env.extend(spec.env.clone());
    env
}

fn first(own: Option<&str>, image: &str, default: &str) -> String {
    own.or(Some(image)).filter(|text| !text.is_empty()).unwrap_or(default).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(entrypoint: &[&str], cmd: &[&str]) -> ImageConfig {
        let own = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        ImageConfig { entrypoint: own(entrypoint), cmd: own(cmd), ..ImageConfig::default() }
    }

    fn run(entrypoint: Option<&[&str]>, command: &[&str], image: &ImageConfig) -> Vec<String> {
        let mut spec = MachineSpec::new("x");
        spec.entrypoint = entrypoint.map(|words| words.iter().map(ToString::to_string).collect());
        spec.command = command.iter().map(ToString::to_string).collect();
        describe(&spec, image).map(|process| process.args).unwrap_or_default()
    }

    #[test]
    fn entrypoint_and_command_join_as_podman_joins_them() {
        let image = image(&["entry"], &["cmd"]);
        assert_eq!(run(None, &[], &image), ["entry", "cmd"]);
        assert_eq!(run(None, &["own"], &image), ["entry", "own"]);
        assert_eq!(run(Some(&["e"]), &[], &image), ["e"]);
        assert_eq!(run(Some(&["e"]), &["own"], &image), ["e", "own"]);
        assert_eq!(run(Some(&[""]), &["own"], &image), ["own"]);
        assert!(run(Some(&[""]), &[], &image).is_empty());
    }

    #[test]
    fn the_persons_environment_wins() {
        let mut image = image(&[], &["x"]);
        image.env = vec!["A=image".into(), "B=image".into()];
        let mut spec = MachineSpec::new("x");
        spec.env.insert("A".into(), "own".into());
        let process = describe(&spec, &image).expect("a process");
        assert_eq!(process.env["A"], "own");
        assert_eq!(process.env["B"], "image");
        assert_eq!(process.env["PATH"], PATH);
    }
}
