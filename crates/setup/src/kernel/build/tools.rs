//! The tools that a kernel's build needs on the host, and the packages that provide them.

use std::env;
use std::ffi::OsStr;
use std::path::Path;

/// A program or header that a build needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    /// A program, or a header by its path.
    pub name: &'static str,
    /// The Debian package that provides it.
    pub package: &'static str,
}

const PROGRAMS: [Tool; 6] = [
    Tool { name: "make", package: "make" },
    Tool { name: "gcc", package: "gcc" },
    Tool { name: "ld", package: "binutils" },
    Tool { name: "flex", package: "flex" },
    Tool { name: "bison", package: "bison" },
    Tool { name: "bc", package: "bc" },
];

const HEADERS: [Tool; 2] = [
    Tool { name: "/usr/include/gelf.h", package: "libelf-dev" },
    Tool { name: "/usr/include/stdio.h", package: "libc6-dev" },
];

/// The tools that are missing: programs on `path` (a `PATH`), and headers.
pub(super) fn missing(path: &OsStr) -> Vec<Tool> {
    let programs = PROGRAMS.into_iter().filter(|tool| !is_program(path, tool.name));
    programs.chain(HEADERS.into_iter().filter(|tool| !Path::new(tool.name).exists())).collect()
}

fn is_program(path: &OsStr, name: &str) -> bool {
    env::split_paths(path).any(|dir| dir.join(name).is_file())
}

/// One command that installs them all.
pub(super) fn install_command(missing: &[Tool]) -> String {
    let packages: Vec<_> = missing.iter().map(|tool| tool.package).collect();
    format!("apt-get install --no-install-recommends {}", packages.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_path_lacks_every_program() {
        let missing = missing(OsStr::new(""));
        assert!(PROGRAMS.iter().all(|tool| missing.contains(tool)));
        assert!(install_command(&missing).contains("make gcc binutils flex bison bc"));
    }
}
