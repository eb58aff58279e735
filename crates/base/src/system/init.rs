//! The init: the program that the agent hands PID 1 to.

use serde::{Deserialize, Serialize};

use super::packages::Packages;
use crate::check::Check;
use crate::tree::Tree;

const NAME: &str = "init";
/// Where an init is looked for, as the kernel and systemd's initramfs do.
const PATHS: [&str; 3] = ["/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd"];
/// Where systemd's shared library is, whose name contains the version.
const LIBRARIES: [&str; 4] = [
    "/usr/lib/systemd",
    "/usr/lib64/systemd",
    "/usr/lib/x86_64-linux-gnu/systemd",
    "/usr/lib/aarch64-linux-gnu/systemd",
];

/// The init of a system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Init {
    /// Its path, such as `/sbin/init`.
    pub path: String,
    /// Where that path leads through symbolic links, such as `/usr/lib/systemd/systemd`.
    pub target: String,
    /// The version of systemd; `None` if it is another init, or the version is not known.
    pub systemd: Option<String>,
}

impl Init {
    fn is_systemd(&self) -> bool {
        self.target.rsplit('/').next() == Some("systemd")
    }

    pub(super) fn with_version(self, tree: &Tree, packages: &Packages) -> Self {
        if !self.is_systemd() {
            return self;
        }
        let systemd = packages.version("systemd").or_else(|| version_of_library(tree));
        Self { systemd, ..self }
    }
}

/// Finds the init; `None` if there is none.
pub(crate) fn find(tree: &Tree) -> Option<Init> {
    let path = PATHS.iter().find(|path| tree.exists(path))?;
    let target = tree.resolve(path)?;
    Some(Init { path: (*path).to_owned(), target, systemd: None })
}

/// The version in the name of systemd's library, as `libsystemd-shared-252.so` or `libsystemd-shared-255.4-1.fc40.so`.
fn version_of_library(tree: &Tree) -> Option<String> {
    let names = LIBRARIES.iter().flat_map(|directory| tree.list(directory));
    names
        .filter_map(|name| Some(name.strip_prefix("libsystemd-shared-")?.strip_suffix(".so")?.to_owned()))
        .next()
}

pub(super) fn check(init: Option<&Init>) -> Check {
    let Some(init) = init else {
        return Check::error(NAME, "there is none", "install systemd in the image");
    };
    let path = if init.path == init.target {
        init.path.clone()
    } else {
        format!("{} -> {}", init.path, init.target)
    };
    if init.is_systemd() {
        let version = init.systemd.as_deref().unwrap_or("of an unknown version");
        return Check::ok(NAME, format!("systemd {version} ({path})"));
    }
    let hint = "mimeo starts it, but reads the end of the boot and the services from systemd only";
    Check::warning(NAME, format!("{path}, which is not systemd"), hint)
}
