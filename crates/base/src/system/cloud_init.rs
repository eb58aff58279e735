//! cloud-init: configures a machine's first boot from its seed disk.

use serde::{Deserialize, Serialize};

use super::packages::Packages;
use super::yaml;
use crate::check::Check;
use crate::tree::Tree;

const NAME: &str = "cloud-init";
const PROGRAMS: [&str; 2] = ["/usr/bin/cloud-init", "/usr/local/bin/cloud-init"];
const DISABLED: &str = "/etc/cloud/cloud-init.disabled";
/// A link to the data of the instance that cloud-init ran for.
const INSTANCE: &str = "/var/lib/cloud/instance";
/// Where Python's modules are, below a directory such as `python3.11`.
const LIBRARIES: [&str; 2] = ["/usr/lib", "/usr/local/lib"];
const PACKAGES: [&str; 2] = ["site-packages", "dist-packages"];
/// The source of data that mimeo's seed disk is.
const NO_CLOUD: &str = "NoCloud";

/// The cloud-init of a system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudInit {
    /// Its version, if it is known.
    pub version: Option<String>,
    /// Whether it is disabled by a file.
    pub is_disabled: bool,
    /// Whether it has run before, for another machine.
    pub has_run: bool,
    /// The sources of data that it is limited to, if it is.
    pub datasources: Option<Vec<String>>,
}

impl CloudInit {
    fn ignores_seed(&self) -> bool {
        self.datasources.as_ref().is_some_and(|list| !list.iter().any(|source| source == NO_CLOUD))
    }
}

/// Finds cloud-init; `None` if it is not installed.
pub(super) fn find(tree: &Tree, packages: &Packages) -> Option<CloudInit> {
    let version = packages.version("cloud-init").or_else(|| version_of_module(tree));
    if version.is_none() && !tree.any_exists(&PROGRAMS) {
        return None;
    }
    Some(CloudInit {
        version,
        is_disabled: tree.exists(DISABLED),
        has_run: tree.exists(INSTANCE),
        datasources: setting(tree, "datasource_list"),
    })
}

/// The value of a list in cloud-init's configuration. Of several files, the last one counts.
pub(super) fn setting(tree: &Tree, key: &str) -> Option<Vec<String>> {
    let parts = tree.list("/etc/cloud/cloud.cfg.d").into_iter().filter(|name| name.ends_with(".cfg"));
    let files = parts.map(|name| format!("/etc/cloud/cloud.cfg.d/{name}"));
    let all = std::iter::once("/etc/cloud/cloud.cfg".to_owned()).chain(files);
    all.filter_map(|path| yaml::list(&tree.text(&path)?, key)).last()
}

/// The version that the Python module states; the packaged one if there is one.
fn version_of_module(tree: &Tree) -> Option<String> {
    let pythons = LIBRARIES.iter().flat_map(|library| {
        let names = tree.list(library).into_iter().filter(|name| name.starts_with("python3"));
        names.map(move |name| format!("{library}/{name}"))
    });
    let modules = pythons
        .flat_map(|python| PACKAGES.map(|packages| format!("{python}/{packages}/cloudinit/version.py")));
    modules.into_iter().find_map(|path| parse_module(&tree.text(&path)?))
}

fn parse_module(text: &str) -> Option<String> {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='))?;
        let value = line.trim().trim_matches(['"', '\'']);
        // Where it is not packaged, a placeholder is there.
        (!value.is_empty() && !value.contains('@')).then(|| value.to_owned())
    };
    value("_PACKAGED_VERSION").or_else(|| value("__VERSION__"))
}

pub(super) fn check(found: Option<&CloudInit>) -> Check {
    let Some(found) = found else {
        let hint = "install it in the image: without it a machine gets no host name, users, SSH keys, network and \
                    user-data from mimeo; commands work";
        return Check::warning(NAME, "it is not installed", hint);
    };
    let version = found.version.as_deref().unwrap_or("of an unknown version");
    if found.is_disabled {
        return Check::warning(
            NAME,
            format!("{version}, disabled"),
            format!("remove {DISABLED} in the image"),
        );
    }
    if found.ignores_seed() {
        let sources = found.datasources.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
        let detail = format!("{version}, which uses only the data sources {sources}");
        return Check::warning(NAME, detail, "add NoCloud to datasource_list in the image's /etc/cloud");
    }
    let history = if found.has_run { " (it has run for another machine)" } else { "" };
    Check::ok(NAME, format!("{version}{history}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Outcome;

    #[test]
    fn the_packaged_version_precedes() {
        let text = "__VERSION__ = \"22.4.2\"\n_PACKAGED_VERSION = \"22.4.2-1ubuntu1\"\n";
        assert_eq!(parse_module(text).as_deref(), Some("22.4.2-1ubuntu1"));
        let text = "__VERSION__ = '24.1'\n_PACKAGED_VERSION = '@@PACKAGED_VERSION@@'\n";
        assert_eq!(parse_module(text).as_deref(), Some("24.1"));
        assert_eq!(parse_module("import os\n"), None);
    }

    #[test]
    fn a_cloud_init_that_does_not_read_the_seed_is_a_warning() {
        let found = |is_disabled, sources: Option<&[&str]>| CloudInit {
            version: Some("1".to_owned()),
            is_disabled,
            has_run: true,
            datasources: sources.map(|list| list.iter().map(ToString::to_string).collect()),
        };
        assert_eq!(check(Some(&found(false, None))).outcome, Outcome::Ok);
        assert_eq!(check(Some(&found(false, Some(&["Ec2", "NoCloud"])))).outcome, Outcome::Ok);
        assert_eq!(check(Some(&found(false, Some(&["Ec2"])))).outcome, Outcome::Warning);
        assert_eq!(check(Some(&found(true, None))).outcome, Outcome::Warning);
        assert_eq!(check(None).outcome, Outcome::Warning);
    }
}
