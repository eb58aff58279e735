//! The QEMU that emulates the host: the newest one for this Debian release, unpacked without installation.
//!
//! QEMU 7.2 does not report the intercept of XSETBV to the hypervisor, so nested guests lose their SSE registers
//! (docs/decisions/0012). 10.0 does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::image::RELEASE;
use crate::narrate::program_output;

const PACKAGES: [&str; 5] =
    ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios", "ipxe-qemu"];
/// The packages' firmware directories.
const FIRMWARE: [&str; 3] = ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"];

/// From the package debian-archive-keyring, which every Debian installs.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The root directory of an unpacked QEMU.
#[derive(Debug, Clone)]
pub(crate) struct Qemu(PathBuf);

impl Qemu {
    /// The QEMU that is unpacked in `root`.
    pub(super) fn at(root: PathBuf) -> Self {
        Self(root)
    }

    /// The path of the program.
    pub(crate) fn program(&self) -> PathBuf {
        self.0.join("usr/bin/qemu-system-x86_64")
    }

    /// The arguments that name its firmware directories.
    pub(crate) fn firmware(&self) -> Vec<String> {
        FIRMWARE.iter().flat_map(|dir| ["-L".to_owned(), self.0.join(dir).display().to_string()]).collect()
    }

    /// Downloads the packages from the backports of this release and unpacks them in `root`.
    pub(super) fn fetch(scratch: &Path, root: &Path) -> Result<()> {
        let apt = Apt::new(scratch)?;
        apt.run(&["update"])?;
        let mut args = vec!["download".to_owned()];
        // Packages without a backport come from the release itself.
        args.extend(PACKAGES.map(str::to_owned));
        apt.run(&args.iter().map(String::as_str).collect::<Vec<_>>())?;
        let packages = fs::read_dir(scratch)?.flatten().map(|entry| entry.path());
        for package in packages.filter(|path| path.extension().is_some_and(|ending| ending == "deb")) {
            program_output(
                "dpkg-deb",
                &["--extract", &package.display().to_string(), &root.display().to_string()],
            )?;
        }
        Ok(())
    }
}

/// apt with separate sources and lists, derived from this host's apt configuration.
struct Apt<'a> {
    scratch: &'a Path,
}

impl<'a> Apt<'a> {
    fn new(scratch: &'a Path) -> Result<Self> {
        for dir in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(scratch.join(dir))?;
        }
        fs::write(scratch.join("sources.list"), sources()?)?;
        fs::write(
            scratch.join("preferences"),
            format!("Package: *\nPin: release a={RELEASE}-backports\nPin-Priority: 900\n"),
        )?;
        Ok(Self { scratch })
    }

    fn run(&self, args: &[&str]) -> Result<()> {
        let path = |name: &str| self.scratch.join(name).display().to_string();
        let options = [
            format!("Dir::Etc::SourceList={}", path("sources.list")),
            "Dir::Etc::SourceParts=-".to_owned(),
            format!("Dir::Etc::Preferences={}", path("preferences")),
            "Dir::Etc::PreferencesParts=-".to_owned(),
            format!("Dir::State::Lists={}", path("lists")),
            format!("Dir::Cache={}", path("cache")),
            // apt's unprivileged user cannot write to the scratch directory.
            "APT::Sandbox::User=".to_owned(),
        ];
        let mut command = Command::new("apt-get");
        command.arg("--quiet").args(options.iter().flat_map(|option| ["-o", option])).args(args);
        let output = command.current_dir(self.scratch).output().context("cannot start apt-get")?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        anyhow::ensure!(
            output.status.success(),
            "apt-get {} ended with {}: {}",
            args[0],
            output.status,
            stderr.trim()
        );
        Ok(())
    }
}

/// Source lines for the release and its backports, at the address that this host's apt uses for the release.
fn sources() -> Result<String> {
    let format = "$(REPO_URI) $(RELEASE)";
    let targets = program_output("apt-get", &["indextargets", "--format", format, "Created-By: Packages"])?;
    let found = targets.lines().find_map(|line| line.strip_suffix(RELEASE)?.strip_suffix(' '));
    let address = found.with_context(|| format!("this host's apt has no source for Debian {RELEASE}"))?;
    let line = |suite: &str| format!("deb [signed-by={KEYRING}] {address} {suite} main\n");
    Ok([line(RELEASE), line(&format!("{RELEASE}-backports"))].concat())
}
