//! podman's commands that mimeo does not have for a reason. The reason is printed instead of "unrecognized subcommand".

use clap::error::{ContextKind, ContextValue, ErrorKind};

const NO_PODS: &str = "mimeo has no pods: each machine is on its own";
const NO_MOUNT: &str =
    "a machine's filesystem is a disk that its own kernel mounts: copy files with `mimeo cp`";
const NO_INIT: &str = "a machine is set up when it is started: its container has no state between `mimeo create` and `mimeo start`, and `mimeo inspect` shows its settings before";
const NO_VOLUME_MOUNT: &str = "a volume is a disk that a machine's kernel mounts: copy files with `mimeo cp` to and from a machine that uses it";
const NO_NETWORKS: &str = "mimeo has no named networks: machines use --network rootless, bridged or none";
const NO_SERVICE: &str = "mimeo has no daemon and no remote service: run it on the host of the machines";
const NO_TRUST: &str = "mimeo verifies digests, not signatures: verify images before you pull them, for example with skopeo or cosign";
const SNAPSHOTS: &str = "machines are saved and restored with `mimeo snapshot`";

/// Commands and reasons. A command also stands for all commands below it.
pub(crate) const REFUSED: [(&str, &str); 36] = [
    (
        "auto-update",
        "mimeo does not update machines by itself: pull the image and replace the machine with `run --replace`",
    ),
    (
        "build",
        "mimeo builds no images: build with podman or buildah, and read the image with `mimeo pull oci-archive:FILE`",
    ),
    ("container checkpoint", SNAPSHOTS),
    (
        "container cleanup",
        "a machine's supervisor cleans up when it exits, and each command after a supervisor that died",
    ),
    (
        "container clone",
        "clone a running machine with `mimeo fork`, or from a snapshot with `mimeo snapshot run`",
    ),
    ("container init", NO_INIT),
    ("container mount", NO_MOUNT),
    ("container restore", SNAPSHOTS),
    ("container runlabel", "mimeo runs no commands that an image's label names: run them yourself"),
    ("container unmount", NO_MOUNT),
    ("generate kube", "mimeo writes no Kubernetes files"),
    ("generate spec", "a machine's settings are in `mimeo inspect`"),
    (
        "image build",
        "mimeo builds no images: build with podman or buildah, and read the image with `mimeo pull oci-archive:FILE`",
    ),
    ("image mount", "an image is an ext4 file, which `mimeo image inspect` names: mount that read-only"),
    ("image scp", "copy images between hosts with skopeo"),
    ("image sign", NO_TRUST),
    ("image trust", NO_TRUST),
    ("image unmount", "an image is an ext4 file, which `mimeo image inspect` names"),
    ("init", NO_INIT),
    ("kube", "mimeo reads no Kubernetes files"),
    ("play", "mimeo reads no Kubernetes files"),
    ("machine", "each container of mimeo is in a machine already: `mimeo ps` lists them"),
    ("manifest", "mimeo makes no manifest lists: use skopeo or buildah"),
    ("mount", NO_MOUNT),
    ("network", NO_NETWORKS),
    ("pod", NO_PODS),
    ("secret", "mimeo keeps no secrets: pass a file with --volume FILE:FILE:ro"),
    ("system connection", NO_SERVICE),
    ("system migrate", "mimeo's files need no migration"),
    ("system renumber", "mimeo uses no numbered locks"),
    ("system service", NO_SERVICE),
    ("unmount", NO_MOUNT),
    ("unshare", "mimeo uses no user namespace: files of an image belong to its disk"),
    ("volume mount", NO_VOLUME_MOUNT),
    ("volume reload", "mimeo has no volume plugins: all volumes are disks on this host"),
    ("volume unmount", NO_VOLUME_MOUNT),
];

/// The reason, if the error is about a command in the table.
pub(crate) fn reason(error: &clap::Error, arguments: &[String]) -> Option<String> {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    let Some(ContextValue::String(last)) = error.get(ContextKind::InvalidSubcommand) else { return None };
    let at = arguments.iter().position(|argument| argument == last)?;
    let words = arguments[..=at].iter().filter(|word| !word.starts_with('-') && *word != "podman");
    let words: Vec<_> = words.map(String::as_str).collect();
    // Words before the command may be values of global options.
    let found = |start: usize| REFUSED.iter().find(|(command, _)| *command == words[start..].join(" "));
    let (command, reason) = (0..words.len()).find_map(found)?;
    Some(format!("cannot run `mimeo {command}`: {reason}"))
}
