//! Installs Firecracker and its jailer where the machines of this home find them.
//!
//! There is no package of either, and nothing is downloaded: the user takes
//! them from Firecracker's release archives, or builds them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mimeo_vmm::firecracker::PROGRAM;
use mimeo_vmm::firecracker::version::{OLDEST, Version};

use super::files::{FileError, IoContext as _, create_dir, read, rename_synced, write_synced};

/// The jailer's file name.
const JAILER: &str = "jailer";

/// Why Firecracker could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum FirecrackerError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The output of `--version` is not that of the expected program.
    #[error("{} is not {name}: its version output is {output:?}", path.display())]
    WrongProgram {
        /// The program.
        path: PathBuf,
        /// The expected program.
        name: &'static str,
        /// The first line of its output.
        output: String,
    },
    /// It is older than the oldest supported version.
    #[error("{} is Firecracker {found}: {OLDEST} or later is needed", path.display())]
    TooOld {
        /// The program.
        path: PathBuf,
        /// Its version.
        found: Version,
    },
}

/// The installed programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Firecracker's path.
    pub program: PathBuf,
    /// Its version.
    pub version: Version,
    /// Whether its jailer was installed, too.
    pub jailer: bool,
}

/// Copies Firecracker into `programs`, with the given jailer or the one in its directory.
///
/// # Errors
/// When either is not the expected program; an earlier installation is then unchanged.
pub fn install(
    programs: &Path,
    firecracker: &Path,
    jailer: Option<&Path>,
) -> Result<Installed, FirecrackerError> {
    let version = read_version(firecracker, "Firecracker v", PROGRAM)?;
    if version < OLDEST {
        return Err(FirecrackerError::TooOld { path: firecracker.to_owned(), found: version });
    }
    let beside = firecracker.with_file_name(JAILER);
    let jailer = jailer.or_else(|| beside.exists().then_some(&*beside));
    if let Some(jailer) = jailer {
        read_version(jailer, "Jailer v", JAILER)?;
    }
    create_dir(programs)?;
    // The jailer first: a Firecracker is never installed without the jailer that belongs to it.
    if let Some(jailer) = jailer {
        install_program(jailer, &programs.join(JAILER))?;
    }
    let program = programs.join(PROGRAM);
    install_program(firecracker, &program)?;
    Ok(Installed { program, version, jailer: jailer.is_some() })
}

fn read_version(path: &Path, prefix: &str, name: &'static str) -> Result<Version, FirecrackerError> {
    let output = Command::new(path).arg("--version").env_clear().stdin(Stdio::null()).output();
    let output = output.at("run", path)?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let version = stdout.lines().find_map(|line| line.strip_prefix(prefix)?.trim().parse().ok());
    version.ok_or_else(|| {
        let output = stdout.lines().next().unwrap_or_default().to_owned();
        FirecrackerError::WrongProgram { path: path.to_owned(), name, output }
    })
}

fn install_program(from: &Path, to: &Path) -> Result<(), FileError> {
    let draft = to.with_extension("new");
    write_synced(&draft, &read(from)?)?;
    std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o755)).at("make executable", &draft)?;
    rename_synced(&draft, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(dir: &Path, name: &str, output: &str) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, format!("#!/bin/sh\necho '{output}'\n")).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
        path
    }

    #[test]
    fn the_jailer_beside_firecracker_is_installed_with_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let programs = dir.path().join("programs");
        let firecracker = script(dir.path(), "firecracker", "Firecracker v1.12.1");
        let without_jailer = install(&programs, &firecracker, None).expect("installed");
        assert_eq!((without_jailer.version, without_jailer.jailer), (Version::new(1, 12, 1), false));
        script(dir.path(), "jailer", "Jailer v1.12.1");
        let with_jailer = install(&programs, &firecracker, None).expect("installed");
        assert!(with_jailer.jailer && programs.join("jailer").exists());
        assert_eq!(with_jailer.program, programs.join("firecracker"));
    }

    #[test]
    fn a_wrong_or_too_old_program_is_refused_and_changes_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let programs = dir.path().join("programs");
        let refused = |path: &Path| install(&programs, path, None).expect_err("refused").to_string();
        assert!(
            refused(&script(dir.path(), "old", "Firecracker v1.9.1")).ends_with("1.10.0 or later is needed")
        );
        assert!(
            refused(&script(dir.path(), "other", "something else"))
                .contains("is not firecracker: its version output is \"something else\"")
        );
        assert!(refused(&dir.path().join("none")).starts_with("cannot run"));
        assert!(!programs.exists());
    }
}
