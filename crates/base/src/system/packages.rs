//! The versions of installed packages, from dpkg's database. rpm's is a program's own format, and is not read.

use crate::tree::Tree;

const STATUS: &str = "/var/lib/dpkg/status";

/// The installed packages of dpkg.
#[derive(Debug)]
pub(super) struct Packages(String);

impl Packages {
    pub(super) fn read(tree: &Tree) -> Self {
        Self(tree.text(STATUS).unwrap_or_default())
    }

    /// The version of a package; `None` if it is not installed.
    pub(super) fn version(&self, package: &str) -> Option<String> {
        let named = self.0.split("\n\n").find(|paragraph| field(paragraph, "Package") == Some(package))?;
        let is_installed = field(named, "Status")?.split_whitespace().last() == Some("installed");
        field(named, "Version").filter(|_| is_installed).map(str::to_owned)
    }
}

/// The value of a field of one line.
fn field<'a>(paragraph: &'a str, name: &str) -> Option<&'a str> {
    paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_installed_packages_have_a_version() {
        let text = "Package: cloud-init-x\nStatus: install ok installed\nVersion: 1\n\n\
                    Package: cloud-init\nStatus: install ok installed\nPriority: optional\nVersion: 22.4.2-1\n\n\
                    Package: systemd\nStatus: deinstall ok config-files\nVersion: 252\n";
        let packages = Packages(text.to_owned());
        assert_eq!(packages.version("cloud-init").as_deref(), Some("22.4.2-1"));
        assert_eq!(packages.version("systemd"), None);
        assert_eq!(packages.version("absent"), None);
    }
}
