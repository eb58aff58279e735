//! `setup kernel --build`: a small kernel, built from the distribution's
//! source. All drivers are built in, so a guest loads no module and boots in
//! half the time; the build takes minutes, once.

mod make;
mod source;
mod tools;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;

pub use make::MakeError;
pub use tools::Tool;

use super::apt::{Apt, AptError, Record};
use super::deb::DebError;
use super::image::{self, ImageError};
use super::manifest::{FORMAT, Manifest, Modules, Origin};
use super::set_up::Step;
use crate::files::{FileError, IoContext as _, create_dir, read, sha256, write_synced};
use make::Make;

/// The configuration, applied over `allnoconfig`.
const FRAGMENT: &str = include_str!("microvm.config");
/// Digits of the configuration's hash in the kernel's name.
const NAME_DIGITS: usize = 8;
/// Options come and go between kernel versions; without these no guest works.
const REQUIRED_OPTIONS: [&str; 11] = [
    "CONFIG_PVH=y",
    "CONFIG_ACPI=y",
    "CONFIG_BLK_DEV_INITRD=y",
    "CONFIG_DEVTMPFS=y",
    "CONFIG_VIRTIO_MMIO=y",
    "CONFIG_VIRTIO_CONSOLE=y",
    "CONFIG_VIRTIO_BLK=y",
    "CONFIG_VIRTIO_NET=y",
    "CONFIG_OVERLAY_FS=y",
    "CONFIG_EXT4_FS=y",
    "CONFIG_CGROUP_FREEZER=y",
];

/// Why no kernel was built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The host lacks tools.
    #[error("building a kernel needs {}: run `{}`", names(.0), tools::install_command(.0))]
    MissingTools(Vec<Tool>),
    /// The metapackage of the release depends on no source package.
    #[error("apt has no linux-source-* package: give a kernel with `--kernel FILE`")]
    NoSourcePackage,
    /// The package does not contain the archive that it always had.
    #[error("the package does not contain usr/src/linux-source-*.tar.xz")]
    NoArchive,
    /// This version of the kernel lacks options that guests need.
    #[error("cannot configure this source for guests: it lacks {}", .0.join(", "))]
    Configuration(Vec<&'static str>),
    /// apt failed.
    #[error("cannot get the source from apt")]
    Apt(#[from] AptError),
    /// The package is damaged.
    #[error("cannot unpack the source package")]
    Deb(#[from] DebError),
    /// `make` failed.
    #[error("cannot build the kernel")]
    Make(#[from] MakeError),
    /// The new kernel cannot be booted.
    #[error("cannot use the kernel that was built")]
    Image(#[from] ImageError),
    /// Reading or writing failed.
    #[error(transparent)]
    File(#[from] FileError),
}

fn names(tools: &[Tool]) -> String {
    tools.iter().map(|tool| tool.name).collect::<Vec<_>>().join(", ")
}

/// Checks the tools before anything is downloaded, then finds the source.
pub(super) fn resolve(apt: &Apt, package: Option<&str>) -> Result<Record, BuildError> {
    let missing = tools::missing(&env::var_os("PATH").unwrap_or_default());
    if missing.is_empty() { source::resolve(apt, package) } else { Err(BuildError::MissingTools(missing)) }
}

pub(super) fn name(record: &Record) -> String {
    format!("{}-{}", record.directory_name("build"), &sha256(FRAGMENT.as_bytes())[..NAME_DIGITS])
}

/// Downloads, unpacks, configures and builds the source, and fills a kernel's
/// directory. The log is beside that directory, so that it outlives a failure.
pub(super) fn fill(
    apt: &Apt,
    record: &Record,
    dir: &Path,
    progress: &mut dyn FnMut(Step),
) -> Result<Manifest, BuildError> {
    let scratch = dir.join("build");
    create_dir(&scratch)?;
    progress(Step::Downloading { package: record.package.clone(), version: record.version.clone() });
    let deb = apt.download(record, &scratch)?;
    progress(Step::Unpacking { path: deb.clone() });
    let tree = source::unpack(&deb, &scratch)?;
    let bzimage = build(&tree, &scratch, dir, progress)?;
    let written = image::write(&bzimage, dir)?;
    fs::remove_dir_all(&scratch).at("remove", &scratch)?;
    Ok(Manifest {
        format: FORMAT,
        name: name(record),
        release: written.release,
        origin: origin(record),
        image: written.image,
        fallback: written.fallback,
        modules: Modules::default(),
    })
}

fn origin(record: &Record) -> Origin {
    Origin::Build {
        package: record.package.clone(),
        version: record.version.clone(),
        config_sha256: sha256(FRAGMENT.as_bytes()),
    }
}

fn build(
    tree: &Path,
    scratch: &Path,
    dir: &Path,
    progress: &mut dyn FnMut(Step),
) -> Result<Vec<u8>, BuildError> {
    let (out, config) = (scratch.join("out"), scratch.join("fragment"));
    let log = dir.parent().unwrap_or(dir).join("build.log");
    create_dir(&out)?;
    write_synced(&config, FRAGMENT.as_bytes())?;
    write_synced(&log, b"")?;
    let make = Make { source: tree, out: &out, log: &log, config: &config };
    make.run("allnoconfig", |_| {})?;
    save_config(&out, dir)?;
    let mut report = |lines| progress(Step::Building { log: log.clone(), lines });
    report(0);
    make.run("bzImage", report)?;
    Ok(read(&out.join("arch/x86/boot/bzImage"))?)
}

/// Saves the full configuration beside the kernel, for reference, and checks it.
fn save_config(out: &Path, dir: &Path) -> Result<(), BuildError> {
    let text = read(&out.join(".config"))?;
    write_synced(&dir.join("config"), &text)?;
    let missing = missing_options(&String::from_utf8_lossy(&text));
    if missing.is_empty() { Ok(()) } else { Err(BuildError::Configuration(missing)) }
}

fn missing_options(config: &str) -> Vec<&'static str> {
    let lines: BTreeSet<_> = config.lines().collect();
    REQUIRED_OPTIONS.into_iter().filter(|option| !lines.contains(option)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_configuration_sets_all_required_options() {
        assert_eq!(missing_options(FRAGMENT), [""; 0]);
        assert_eq!(
            missing_options("CONFIG_PVH=y\n# CONFIG_ACPI is not set\n").len(),
            REQUIRED_OPTIONS.len() - 1
        );
    }

    #[test]
    fn the_error_names_the_packages_to_install() {
        let error = BuildError::MissingTools(tools::missing(std::ffi::OsStr::new(""))).to_string();
        assert!(error.contains("apt-get install --no-install-recommends make"), "{error}");
    }
}
