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

use crate::arguments::valid_id;
use crate::settings;

/// Options with a value. `--cgroup`, which may be repeated, is handled apart.
const VALUES: [&str; 9] = [
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
pub fn main(words: impl Iterator<Item = String>) -> ExitCode {
    let failed = match Jail::parse(words) {
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
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut jail = Self::default();
        let mut seen: Vec<String> = Vec::new();
        while let Some(word) = words.next() {
            if word == "--" {
                jail.rest = words.collect();
                break;
            }
            let name =
                word.strip_prefix("--").ok_or(format!("Found argument '{word}' which wasn't expected"))?;
            if name != "cgroup" && !VALUES.contains(&name) {
                return Err(format!("Found argument '{name}' which wasn't expected"));
            }
            let value = words.next().ok_or(format!("The argument '{name}' requires a value"))?;
            jail.take(name, value)?;
            seen.push(name.to_owned());
        }
        for needed in ["id", "exec-file", "uid", "gid", "chroot-base-dir"] {
            if !seen.iter().any(|name| name == needed) {
                return Err(format!("Argument '{needed}' required, but not found"));
            }
        }
        Ok(jail)
    }

    fn take(&mut self, name: &str, value: String) -> Result<(), String> {
        let number = |value: &str| value.parse().map_err(|_| format!("Invalid {name}: {value}"));
        match name {
            "id" => self.id = valid_id(value).map_err(|wrong| wrong.to_string())?,
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
        self.own(&root.join(name), 0o700)?;
        for folder in FOLDERS {
            fs::create_dir_all(root.join(folder))?;
            self.own(&root.join(folder), 0o700)?;
        }
        let tun = root.join("dev/net/tun");
        let (kind, mode) = (FileType::CharacterDevice, Mode::RUSR | Mode::WUSR);
        mknodat(CWD, &tun, kind, mode, makedev(TUN.0, TUN.1))?;
        self.own(&tun, 0o600)?;
        // The fake's settings are beside the jail.
        let told = self.base.with_file_name(settings::FILE);
        if told.exists() {
            fs::copy(&told, root.join(settings::FILE))?;
            self.own(&root.join(settings::FILE), 0o600)?;
        }
        std::env::set_current_dir(&root)?;
        let pid = root.join(format!("{}.pid", name.display()));
        fs::write(pid, std::process::id().to_string())?;
        let mut command = Command::new(Path::new(".").join(name));
        command.args(["--id", &self.id, "--start-time-us", "0", "--start-time-cpu-us", "0"]);
        command.args(["--parent-cpu-time-us", "0"]).args(&self.rest);
        Ok(command.env_clear().uid(self.uid).gid(self.gid).exec().to_string())
    }

    fn own(&self, path: &Path, mode: u32) -> io::Result<()> {
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
    fn all_that_a_jail_needs_must_be_told() {
        let parse = |line: &str| Jail::parse(line.split_whitespace().map(str::to_owned));
        let jail =
            parse("--id a --exec-file /bin/sh --uid 5 --gid 6 --chroot-base-dir /tmp -- --level Warning");
        assert_eq!(jail.expect("taken").rest, ["--level", "Warning"]);
        assert!(parse("--id a").is_err_and(|why| why.contains("'exec-file' required")));
        assert!(parse("--nope 1").is_err());
        assert!(parse("--id a_b").is_err());
    }
}
