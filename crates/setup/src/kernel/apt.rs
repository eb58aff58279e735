//! Looks up and downloads Debian packages through the host's own apt, with its
//! mirrors, proxies and keys. Neither call needs root, and neither installs
//! anything.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::files::{FileError, IoContext as _};

/// Bytes of a failed command's stderr that are reported: its end gives the reason.
const STDERR_TAIL_BYTES: usize = 600;

/// Why apt could not find or download a package.
#[derive(Debug, thiserror::Error)]
pub enum AptError {
    /// Not a Debian-like host.
    #[error(
        "{} is not installed on this host: give a kernel with `--kernel FILE` (and `--modules DIR`)", program.display()
    )]
    Missing {
        /// The missing program.
        program: PathBuf,
    },
    /// The program did not start.
    #[error("cannot run {}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The command failed.
    #[error("`{command}` failed: {stderr}; if the package index is old, run `apt-get update`")]
    Failed {
        /// The whole command.
        command: String,
        /// The end of its standard error.
        stderr: String,
    },
    /// The index has no such package.
    #[error("apt has no package {0}: run `apt-get update`, or give a kernel with `--kernel FILE`")]
    NoSuchPackage(String),
    /// apt-get succeeded but downloaded no package.
    #[error("apt-get downloaded no package to {}", .0.display())]
    NothingDownloaded(PathBuf),
    /// The directory could not be read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// One version of one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) package: String,
    pub(super) version: String,
    /// The first alternative of each dependency.
    pub(super) depends: Vec<String>,
}

/// The two programs of apt that are called.
#[derive(Debug, Clone)]
pub(super) struct Apt {
    pub(super) cache: PathBuf,
    pub(super) get: PathBuf,
}

impl Default for Apt {
    fn default() -> Self {
        Self { cache: "apt-cache".into(), get: "apt-get".into() }
    }
}

impl Apt {
    /// Reads the index entry of the version that apt would install.
    pub(super) fn show(&self, package: &str) -> Result<Record, AptError> {
        let mut command = Command::new(&self.cache);
        command.args(["show", "--no-all-versions", "--", package]);
        let output = run(&mut command, &self.cache)?;
        let text = String::from_utf8_lossy(&output.stdout);
        Record::parse(&text).ok_or_else(|| AptError::NoSuchPackage(package.to_owned()))
    }

    /// Downloads a package into an empty directory; apt checks its signature
    /// chain and its hash.
    pub(super) fn download(&self, record: &Record, into: &Path) -> Result<PathBuf, AptError> {
        let mut command = Command::new(&self.get);
        command.args(["-q", "download", &format!("{}={}", record.package, record.version)]);
        run(command.current_dir(into), &self.get)?;
        let mut entries =
            fs::read_dir(into).at("list", into)?.filter_map(Result::ok).map(|entry| entry.path());
        let deb = entries.find(|path| path.extension() == Some(OsStr::new("deb")));
        deb.ok_or_else(|| AptError::NothingDownloaded(into.to_owned()))
    }
}

impl Record {
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        Some(Self {
            package: field("Package:")?.to_owned(),
            version: field("Version:")?.to_owned(),
            depends: field("Depends:").unwrap_or_default().split(',').filter_map(first_name).collect(),
        })
    }

    /// A directory name for this version: apt's versions may contain a colon.
    pub(super) fn directory_name(&self, kind: &str) -> String {
        let safe = |c: char| if c.is_ascii_alphanumeric() || "+-.~".contains(c) { c } else { '_' };
        format!("{kind}-{}", self.version.chars().map(safe).collect::<String>())
    }
}

/// `a (= 1) | b` is `a`.
fn first_name(dependency: &str) -> Option<String> {
    dependency.split_whitespace().next().map(str::to_owned)
}

fn run(command: &mut Command, program: &Path) -> Result<Output, AptError> {
    // The field names of the index are never translated, but error messages may be.
    let output = command.env("LC_ALL", "C").output().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => AptError::Missing { program: program.to_owned() },
        _ => AptError::Run { program: program.to_owned(), source },
    })?;
    if output.status.success() { Ok(output) } else { Err(command_failed(command, &output)) }
}

fn command_failed(command: &Command, output: &Output) -> AptError {
    let arguments = std::iter::once(command.get_program()).chain(command.get_args());
    let command = arguments.map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let tail = output.stderr.len().saturating_sub(STDERR_TAIL_BYTES);
    let stderr = String::from_utf8_lossy(&output.stderr[tail..]).trim().replace('\n', "; ");
    AptError::Failed { command, stderr }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_apt_the_error_names_the_alternative() {
        let apt = Apt { cache: "/nowhere/apt-cache".into(), get: "/nowhere/apt-get".into() };
        let error = apt.show("linux-image-cloud-amd64").unwrap_err();
        assert!(matches!(error, AptError::Missing { .. }), "{error:?}");
        assert!(error.to_string().contains("--kernel FILE"), "{error}");
    }

    #[test]
    fn a_failed_command_is_quoted() {
        let apt = Apt { cache: "false".into(), get: "false".into() };
        let error = apt.show("some-package").unwrap_err().to_string();
        assert!(error.starts_with("`false show --no-all-versions -- some-package` failed"), "{error}");
    }

    #[test]
    fn a_package_that_the_index_lacks_is_an_error() {
        let apt = Apt { cache: "true".into(), get: "true".into() };
        assert!(
            matches!(apt.show("some-package"), Err(AptError::NoSuchPackage(name)) if name == "some-package")
        );
    }

    #[test]
    fn a_record_is_parsed() {
        let text = "Package: linux-image-cloud-amd64\nVersion: 2:6.1.192-2~x\n\
                    Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2), kmod | busybox\n";
        let record = Record::parse(text).unwrap();
        assert_eq!(record.depends, ["linux-image-6.1.0-56-cloud-amd64", "kmod"]);
        assert_eq!(record.directory_name("debian"), "debian-2_6.1.192-2~x");
    }
}
