//! A fake of the jailer: it takes the same arguments, creates the same directories and device nodes, drops
//! the same privileges and then executes a copy of the program, with the jail's root as its working
//! directory.
//!
//! It does not chroot, since the fake of Firecracker needs the host's libraries, creates no device node
//! except `/dev/net/tun`, and no cgroups. Those are tested with the real jailer.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::arguments::validate_id;
use crate::settings;

/// Options with a value. `--cgroup`, which may be repeated, is handled apart.
const OPTIONS: [&str; 9] = [
    "id",
    "exec-file",
    "uid",
    "gid",
    "chroot-base-dir",
    "netns",
    "cgroup-version",
    "parent-cgroup",
    "resource-limit",
];
/// The device number of `/dev/net/tun`.
const TUN: (u32, u32) = (10, 200);
/// The directories of every jail.
const FOLDERS: [&str; 4] = ["", "dev", "dev/net", "run"];

/// Runs the fake jailer with these arguments.
pub fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    let failed = match Jail::parse(arguments) {
        Ok(jail) => jail.run().unwrap_or_else(|error| error.to_string()),
        Err(why) => why,
    };
    eprintln!("Jailer error: {failed}");
    ExitCode::FAILURE
}

#[derive(Debug, Default)]
struct Jail {
    id: String,
    program: PathBuf,
    uid: u32,
    gid: u32,
    base: PathBuf,
    rest: Vec<String>,
}

impl Jail {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut jail = Self::default();
        let mut seen: Vec<String> = Vec::new();
        while let Some(argument) = arguments.next() {
            if argument == "--" {
                jail.rest = arguments.collect();
                break;
            }
            let name = argument
                .strip_prefix("--")
                .ok_or(format!("Found argument '{argument}' which wasn't expected"))?;
            if name != "cgroup" && !OPTIONS.contains(&name) {
                return Err(format!("Found argument '{name}' which wasn't expected"));
            }
            let value = arguments.next().ok_or(format!("The argument '{name}' requires a value"))?;
            jail.set_argument(name, value)?;
            seen.push(name.to_owned());
        }
        for required in ["id", "exec-file", "uid", "gid", "chroot-base-dir"] {
            if !seen.iter().any(|name| name == required) {
                return Err(format!("Argument '{required}' required, but not found"));
            }
        }
        Ok(jail)
    }

    fn set_argument(&mut self, name: &str, value: String) -> Result<(), String> {
        let number = |value: &str| value.parse().map_err(|_| format!("Invalid {name}: {value}"));
        match name {
            "id" => self.id = validate_id(value).map_err(|error| error.to_string())?,
            "exec-file" => self.program = canonical(&value)?,
            "chroot-base-dir" => self.base = canonical(&value)?,
            "uid" => self.uid = number(&value)?,
            "gid" => self.gid = number(&value)?,
            _ => {}
        }
        Ok(())
    }

    /// Executes the program; returns why that failed.
    fn run(&self) -> io::Result<String> {
        let name = self.program.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let root = self.base.join(name).join(&self.id).join("root");
        fs::create_dir_all(&root)?;
        fs::copy(&self.program, root.join(name))?;
        self.set_owner(&root.join(name), 0o700)?;
        for folder in FOLDERS {
            fs::create_dir_all(root.join(folder))?;
            self.set_owner(&root.join(folder), 0o700)?;
        }
        let tun = root.join("dev/net/tun");
        let (kind, mode) = (FileType::CharacterDevice, Mode::RUSR | Mode::WUSR);
        mknodat(CWD, &tun, kind, mode, makedev(TUN.0, TUN.1))?;
        self.set_owner(&tun, 0o600)?;
        // The fake's settings are beside the jail.
        let settings = self.base.with_file_name(settings::FILE);
        if settings.exists() {
            fs::copy(&settings, root.join(settings::FILE))?;
            self.set_owner(&root.join(settings::FILE), 0o600)?;
        }
        std::env::set_current_dir(&root)?;
        let pid = root.join(format!("{}.pid", name.display()));
        fs::write(pid, std::process::id().to_string())?;
        let mut command = Command::new(Path::new(".").join(name));
        command.args(["--id", &self.id, "--start-time-us", "0", "--start-time-cpu-us", "0"]);
        command.args(["--parent-cpu-time-us", "0"]).args(&self.rest);
        Ok(command.env_clear().uid(self.uid).gid(self.gid).exec().to_string())
    }

    fn set_owner(&self, path: &Path, mode: u32) -> io::Result<()> {
        chown(path, Some(self.uid), Some(self.gid))?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }
}

fn canonical(path: &str) -> Result<PathBuf, String> {
    fs::canonicalize(path).map_err(|error| format!("Failed to canonicalize path {path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_arguments_are_checked() {
        let parse = |line: &str| Jail::parse(line.split_whitespace().map(str::to_owned));
        let jail =
            parse("--id a --exec-file /bin/sh --uid 5 --gid 6 --chroot-base-dir /tmp -- --level Warning");
        assert_eq!(jail.expect("parsed").rest, ["--level", "Warning"]);
        assert!(parse("--id a").is_err_and(|why| why.contains("'exec-file' required")));
        assert!(parse("--nope 1").is_err());
        assert!(parse("--id a_b").is_err());
    }
}
