//! The default: Debian's cloud kernel, extracted from its package.

use std::fs;
use std::path::{Path, PathBuf};

use super::apt::{Apt, AptError, Record};
use super::deb::{self, DebError};
use super::image::{self, ImageError};
use super::manifest::{FORMAT, Manifest, Origin};
use super::modules::{self, ModulesError};
use super::set_up::Step;
use crate::files::{FileError, IoContext as _, create_dir, read};

/// Depends on the versioned package that is current.
const META_PACKAGE: &str = "linux-image-cloud-amd64";
/// How the versioned packages' names begin.
const IMAGE_PREFIX: &str = "linux-image-";

/// Why Debian's kernel could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum DebianError {
    /// The metapackage no longer depends on a kernel package.
    #[error("{META_PACKAGE} {version} depends on no kernel package")]
    NoKernelPackage {
        /// Its version.
        version: String,
    },
    /// A file is not where kernel packages have it.
    #[error("package {package} does not contain {file}")]
    Incomplete {
        /// The package.
        package: String,
        /// The missing file.
        file: &'static str,
    },
    /// apt failed.
    #[error("cannot get the package from apt")]
    Apt(#[from] AptError),
    /// The package is damaged.
    #[error("cannot unpack the package")]
    Deb(#[from] DebError),
    /// The kernel in it cannot be booted.
    #[error("cannot use the kernel in the package")]
    Image(#[from] ImageError),
    /// The modules in it are incomplete or damaged.
    #[error("cannot use the modules in the package")]
    Modules(#[from] ModulesError),
    /// Reading or writing failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Resolves the metapackage, whose name never changes, to the versioned package.
pub(super) fn resolve(apt: &Apt) -> Result<Record, DebianError> {
    let meta = apt.show(META_PACKAGE)?;
    let package = meta.depends.iter().find(|name| name.starts_with(IMAGE_PREFIX));
    let package = package.ok_or(DebianError::NoKernelPackage { version: meta.version.clone() })?;
    Ok(apt.show(package)?)
}

pub(super) fn name(record: &Record) -> String {
    format!("{}-m{}", record.directory_name("debian"), modules::selection())
}

/// Downloads the package and fills a kernel's directory from it.
pub(super) fn fill(
    apt: &Apt,
    record: &Record,
    dir: &Path,
    progress: &mut dyn FnMut(Step),
) -> Result<Manifest, DebianError> {
    let scratch = dir.join("package");
    create_dir(&scratch)?;
    progress(Step::Downloading { package: record.package.clone(), version: record.version.clone() });
    let deb = apt.download(record, &scratch)?;
    progress(Step::Unpacking { path: deb.clone() });
    let tree = scratch.join("tree");
    deb::unpack(&deb, &tree, is_kernel_file)?;
    progress(Step::Extracting);
    let manifest = install_files(record, &tree, dir)?;
    fs::remove_dir_all(&scratch).at("remove", &scratch)?;
    Ok(manifest)
}

fn install_files(record: &Record, tree: &Path, dir: &Path) -> Result<Manifest, DebianError> {
    let incomplete = |file| DebianError::Incomplete { package: record.package.clone(), file };
    let vmlinuz = first_file(&tree.join("boot")).ok_or_else(|| incomplete("boot/vmlinuz-*"))?;
    let written = image::write(&read(&vmlinuz)?, dir)?;
    let modules = modules_tree(tree, &written.release).ok_or_else(|| incomplete("lib/modules"))?;
    Ok(Manifest {
        format: FORMAT,
        name: name(record),
        release: written.release,
        origin: Origin::Debian { package: record.package.clone(), version: record.version.clone() },
        image: written.image,
        fallback: written.fallback,
        modules: modules::copy(&modules, dir)?,
    })
}

/// Newer releases have the modules below /usr.
fn modules_tree(tree: &Path, release: &str) -> Option<PathBuf> {
    let parents = ["usr/lib/modules", "lib/modules"];
    parents.iter().map(|parent| tree.join(parent).join(release)).find(|dir| dir.is_dir())
}

fn is_kernel_file(path: &Path) -> bool {
    let is_below = |dir| path.strip_prefix(dir).is_ok();
    path.to_string_lossy().starts_with("boot/vmlinuz-")
        || is_below("lib/modules")
        || is_below("usr/lib/modules")
}

fn first_file(dir: &Path) -> Option<PathBuf> {
    fs::read_dir(dir).ok()?.filter_map(Result::ok).map(|entry| entry.path()).next()
}
