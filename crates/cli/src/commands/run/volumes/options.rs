//! The options of one mount: podman's words.

use mimeo_engine::machine::{VolumeMount, VolumeSpec};

/// Words of which a mount has at most one.
const KINDS: [&[&str]; 7] = [
    &["ro", "rw"],
    &["z", "Z"],
    &["exec", "noexec"],
    &["suid", "nosuid"],
    &["dev", "nodev"],
    &["copy", "nocopy"],
    &["bind", "rbind", "private", "rprivate"],
];
/// What a directory of the host cannot be mounted with.
const NOT_OF_HOST: [(&str, &str); 3] = [
    ("noexec", "programs of a directory of the host can be executed"),
    ("suid", "a directory of the host is mounted with nosuid, since its files belong to another system"),
    ("dev", "a directory of the host is mounted with nodev, since its files belong to another system"),
];
const NO_OVERLAY: &str = "mimeo puts no overlay over a volume: mount it read-only with ro, or copy its files";
const NO_IDMAP: &str = "a machine has no user namespace: user ids in a volume are those of the guest";
const NO_CHOWN: &str = "a new volume has the owner of the directory that it replaces; change the owner of another one \
                        with chown in the machine";
const NO_PROPAGATION: &str = "a machine shares no mounts with the host: use private or rprivate";
/// podman's options that are refused, and why.
const REFUSED: [(&str, &str); 9] = [
    ("O", NO_OVERLAY),
    ("U", NO_CHOWN),
    ("idmap", NO_IDMAP),
    ("shared", NO_PROPAGATION),
    ("rshared", NO_PROPAGATION),
    ("slave", NO_PROPAGATION),
    ("rslave", NO_PROPAGATION),
    ("unbindable", NO_PROPAGATION),
    ("runbindable", NO_PROPAGATION),
];

/// The options of one mount.
#[derive(Debug, Default)]
pub(super) struct Options {
    /// As given, at most one of each kind.
    words: Vec<String>,
}

impl Options {
    /// Adds a word. The error says what the option is or does, for a message that names the option.
    pub(super) fn add(&mut self, word: &str) -> Result<(), String> {
        let key = word.split_once('=').map_or(word, |(key, _)| key);
        if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| *refused == key) {
            return Err(format!("cannot have the option {word:?}: {reason}"));
        }
        let Some(kind) = KINDS.iter().find(|kind| kind.contains(&word)) else {
            return Err(format!("has an unknown option {word:?}"));
        };
        if let Some(other) = self.words.iter().find(|other| kind.contains(&other.as_str())) {
            return Err(format!("has both {other:?} and {word:?}: give one of them"));
        }
        self.words.push(word.to_owned());
        Ok(())
    }

    /// The words, as given.
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(String::as_str)
    }

    /// Whether the word was given.
    fn has(&self, word: &str) -> bool {
        self.words.iter().any(|given| given == word)
    }

    /// Applies the options to a directory of the host.
    pub(super) fn apply_to_host(&self, volume: &mut VolumeSpec) -> Result<(), String> {
        if let Some((word, reason)) = NOT_OF_HOST.iter().find(|(word, _)| self.has(word)) {
            return Err(format!("cannot have the option {word:?}: {reason}"));
        }
        volume.read_only = self.has("ro");
        Ok(())
    }

    /// Applies the options to a volume.
    pub(super) fn apply_to_volume(&self, volume: &mut VolumeMount) {
        volume.read_only = self.has("ro");
        volume.no_exec = self.has("noexec");
        volume.suid = self.has("suid");
        volume.dev = self.has("dev");
        volume.no_copy = self.has("nocopy");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Result<Options, String> {
        let mut options = Options::default();
        text.split(',').try_for_each(|word| options.add(word))?;
        Ok(options)
    }

    #[test]
    fn options_are_podmans() {
        let mut volume = VolumeMount::default();
        options("ro,noexec,suid,dev,nocopy,z,rprivate").expect("options").apply_to_volume(&mut volume);
        assert!(volume.read_only && volume.no_exec && volume.suid && volume.dev && volume.no_copy);
        options("rw,exec,nosuid,nodev,copy,Z").expect("options").apply_to_volume(&mut volume);
        assert_eq!(volume, VolumeMount::default());
        for bad in [
            "",
            "shiny",
            "ro,rw",
            "ro,ro",
            "z,Z",
            "exec,noexec",
            "U",
            "O",
            "idmap",
            "idmap=uids=0-1-2",
            "rshared",
        ] {
            assert!(options(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_directory_of_the_host_has_fewer() {
        let mut volume = VolumeSpec { host: "/h".into(), guest: "/g".into(), read_only: false };
        options("ro,nosuid,nodev,exec,nocopy").expect("options").apply_to_host(&mut volume).expect("applied");
        assert!(volume.read_only);
        for bad in ["noexec", "suid", "dev"] {
            assert!(options(bad).expect("options").apply_to_host(&mut volume).is_err(), "{bad}");
        }
    }
}
