//! The installed QEMU, and wrapper scripts that change its behaviour for a test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::World;

const PROGRAM: &str = "qemu-system-x86_64";

/// The first QEMU in PATH, which is the one that mimeo uses.
#[must_use]
pub fn installed_qemu() -> PathBuf {
    let path = std::env::var_os("PATH").expect("PATH is set");
    let mut found = std::env::split_paths(&path).map(|dir| dir.join(PROGRAM)).filter(|path| path.is_file());
    found.next().expect("QEMU is installed: apt-get install qemu-system-x86")
}

impl World {
    /// A PATH whose QEMU is a shell script, in which `$QEMU` is the installed one.
    #[must_use]
    pub fn path_with_qemu(&self, script: &str) -> String {
        let text = format!("#!/bin/sh\nQEMU={}\n{script}\n", installed_qemu().display());
        let program = self.file(&format!("bin/{PROGRAM}"), text);
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("permissions");
        format!("{}:/usr/bin:/bin", program.parent().expect("a directory").display())
    }
}
