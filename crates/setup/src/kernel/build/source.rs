//! Selects the package of the kernel's source and unpacks its two layers.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::BuildError;
use crate::files::{IoContext as _, create_dir};
use crate::kernel::apt::{Apt, AptError, Record};
use crate::kernel::deb;
use crate::kernel::decompress::{Format, reader};

/// Preferred if apt has it: the newest source that the configuration was tested
/// with. Otherwise the release's own is used.
const PREFERRED: &str = "linux-source-6.12";
const META_PACKAGE: &str = "linux-source";
const PREFIX: &str = "linux-source-";

/// Selects the source package to build from.
pub(super) fn resolve(apt: &Apt, package: Option<&str>) -> Result<Record, BuildError> {
    if let Some(package) = package {
        return Ok(apt.show(package)?);
    }
    match apt.show(PREFERRED) {
        Err(AptError::NoSuchPackage(_) | AptError::Failed { .. }) => show_release_package(apt),
        other => Ok(other?),
    }
}

fn show_release_package(apt: &Apt) -> Result<Record, BuildError> {
    let meta = apt.show(META_PACKAGE)?;
    let package = meta.depends.iter().find(|name| name.starts_with(PREFIX));
    Ok(apt.show(package.ok_or(BuildError::NoSourcePackage)?)?)
}

/// Unpacks the package, then the archive in it; returns the tree's directory.
pub(super) fn unpack(deb: &Path, scratch: &Path) -> Result<PathBuf, BuildError> {
    let package = scratch.join("package");
    deb::unpack(deb, &package, is_archive)?;
    let archive = find_archive(&package).ok_or(BuildError::NoArchive)?;
    let tree = scratch.join("tree");
    create_dir(&tree)?;
    unpack_archive(&archive, &tree).at("unpack", &archive)?;
    fs::remove_dir_all(&package).at("remove", &package)?;
    first_directory(&tree).ok_or(BuildError::NoArchive)
}

fn is_archive(path: &Path) -> bool {
    let name = path.to_string_lossy();
    name.starts_with("usr/src/linux-source-") && name.ends_with(".tar.xz")
}

fn find_archive(package: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(package.join("usr/src")).ok()?;
    entries.filter_map(Result::ok).map(|entry| entry.path()).find(|path| path.is_file())
}

/// Unpacks some 90,000 files, 1.5 GB. There are links among them; none may lead outside.
fn unpack_archive(archive: &Path, tree: &Path) -> io::Result<()> {
    let mut tar = tar::Archive::new(reader(Format::Xz, File::open(archive)?)?);
    for entry in tar.entries()? {
        entry?.unpack_in(tree)?;
    }
    Ok(())
}

fn first_directory(dir: &Path) -> Option<PathBuf> {
    fs::read_dir(dir).ok()?.filter_map(Result::ok).map(|entry| entry.path()).find(|path| path.is_dir())
}
