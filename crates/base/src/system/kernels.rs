//! The kernels of a system. mimeo starts machines with its own kernel, so nothing here is an error.

use serde::{Deserialize, Serialize};

use crate::check::Check;
use crate::tree::Tree;

const NAME: &str = "nic-driver";
/// How kernels in /boot are named.
const PREFIXES: [&str; 4] = ["vmlinuz", "vmlinux", "Image", "bzImage"];
const MODULES: [&str; 2] = ["/lib/modules", "/usr/lib/modules"];
const DRIVER: &str = "virtio_net.ko";

/// The kernels of a system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernels {
    /// The names of the kernels in /boot.
    pub images: Vec<String>,
    /// The versions of kernels with modules.
    pub versions: Vec<String>,
    /// Those that have a driver for virtio NICs.
    pub with_virtio_net: Vec<String>,
}

pub(super) fn find(tree: &Tree) -> Kernels {
    let images = tree.list("/boot").into_iter();
    let images = images.filter(|name| PREFIXES.iter().any(|prefix| name.starts_with(prefix))).collect();
    let directory = MODULES.iter().find(|directory| tree.is_dir(directory));
    let versions = directory.map(|directory| tree.list(directory)).unwrap_or_default();
    let has_driver = |version: &&String| {
        directory.is_some_and(|modules| has_driver(tree, &format!("{modules}/{version}")))
    };
    let with_virtio_net = versions.iter().filter(has_driver).cloned().collect();
    Kernels { images, versions, with_virtio_net }
}

/// Whether the driver is a module, compressed or not, or built in.
fn has_driver(tree: &Tree, modules: &str) -> bool {
    let drivers = tree.list(&format!("{modules}/kernel/drivers/net"));
    let is_built_in = |text: String| text.lines().any(|line| line.ends_with(&format!("/{DRIVER}")));
    drivers.iter().any(|name| name.starts_with(DRIVER))
        || tree.text(&format!("{modules}/modules.builtin")).is_some_and(is_built_in)
}

pub(super) fn check(kernels: &Kernels) -> Check {
    if !kernels.with_virtio_net.is_empty() {
        return Check::ok(NAME, format!("virtio_net in the kernel {}", kernels.with_virtio_net.join(", ")));
    }
    let detail = match kernels.versions.as_slice() {
        [] => "the image has no kernel with modules".to_owned(),
        versions => format!("no virtio_net in the kernel {}", versions.join(", ")),
    };
    let hint = "no matter for mimeo, whose own kernel has it; elsewhere the image has no network";
    Check::warning(NAME, detail, hint)
}
