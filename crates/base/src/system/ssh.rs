//! The SSH server.

use crate::check::Check;
use crate::tree::Tree;

const NAME: &str = "ssh-server";
const SERVERS: [&str; 4] = ["/usr/sbin/sshd", "/usr/bin/sshd", "/usr/sbin/dropbear", "/usr/bin/dropbear"];

/// The name of the SSH server; `None` if there is none.
pub(super) fn find(tree: &Tree) -> Option<String> {
    let path = SERVERS.iter().find(|path| tree.exists(path))?;
    path.rsplit('/').next().map(str::to_owned)
}

pub(super) fn check(found: Option<&str>) -> Check {
    match found {
        Some(server) => Check::ok(NAME, server),
        None => {
            let hint = "install openssh-server in the image, if people shall log in; commands work without";
            Check::warning(NAME, "it is not installed", hint)
        }
    }
}
