//! Resolves what a process refers to in the container.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::ErrorKind;
use std::path::Path;

use mimeo_agent_protocol::message::{Failure, FailureKind, Process};

use super::c_string;
use super::privileges::ProgramPrivileges;
use crate::failure::{SystemError, failure};
use crate::users::{self, Credentials};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A process that is ready to be forked.
#[derive(Debug)]
pub(crate) struct Command {
    /// The program as requested, for messages.
    pub(super) program: String,
    pub(super) args: Vec<CString>,
    pub(super) env: Vec<CString>,
    /// The paths at which to try the program, in order.
    pub(super) candidates: Vec<CString>,
    pub(super) credentials: Credentials,
    pub(super) directory: CString,
    pub(super) init: bool,
    pub(super) privileges: ProgramPrivileges,
    /// Restrict /proc and /sys of a new container.
    pub(super) masked: bool,
}

impl Command {
    /// Must run in the container's root, on a thread that may block.
    pub(super) fn resolve(process: Process, hostname: &str, is_container: bool) -> Result<Self, Failure> {
        let Some(program) = process.args.first().filter(|program| !program.is_empty()).cloned() else {
            return Err(failure(FailureKind::Invalid, "no command specified"));
        };
        let privileges = process.privileges.as_ref();
        let additional = privileges.map_or(&[][..], |privileges| &privileges.groups);
        let credentials = resolve_credentials(&process.user, additional)?;
        let directory = resolve_directory(&process.cwd, is_container)?;
        let env = environment(process.env, &credentials, hostname, process.terminal.is_some());
        let path = env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
        Ok(Self {
            candidates: candidates(&program, path),
            privileges: ProgramPrivileges::new(privileges, &credentials),
            masked: privileges.is_some_and(|privileges| !privileges.whole_guest),
            program,
            args: process.args.iter().map(|arg| c_string(arg)).collect(),
            env: env.iter().map(|(name, value)| c_string(&format!("{name}={value}"))).collect(),
            credentials,
            directory,
            init: process.init && is_container,
        })
    }
}

fn resolve_credentials(user: &str, additional: &[String]) -> Result<Credentials, Failure> {
    let (passwd, group) = (read_image_file("/etc/passwd")?, read_image_file("/etc/group")?);
    users::resolve(user, additional, &passwd, &group)
        .map_err(|error| failure(FailureKind::UnknownUser, error.to_string()))
}

/// The UID and GID of a user of the image. Must run in the container's root.
pub(crate) fn resolve_user(user: &str) -> Result<(u32, u32), Failure> {
    resolve_credentials(user, &[]).map(|credentials| (credentials.uid, credentials.gid))
}

/// The text of a file of the image; empty when the file does not exist.
pub(crate) fn read_image_file(path: &str) -> Result<String, Failure> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(String::new())
        }
        Err(error) => Err(SystemError::new(format!("read {path}"), error).into()),
    }
}

/// The working directory. For the container's own process it is created; other
/// processes must name an existing one.
fn resolve_directory(cwd: &str, is_container: bool) -> Result<CString, Failure> {
    let path = if cwd.is_empty() { "/" } else { cwd };
    if !path.starts_with('/') {
        return Err(failure(FailureKind::Invalid, format!("working directory {path} is not absolute")));
    }
    if is_container && !Path::new(path).exists() {
        // If this fails, as on a read-only root, the chdir reports it.
        rustix::fs::mkdir(path, rustix::fs::Mode::from_raw_mode(0o755))
            .or_else(|_| create_directories(path))
            .ok();
    }
    Ok(c_string(path))
}

fn create_directories(path: &str) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

/// Adds the variables that podman sets when the request does not.
fn environment(
    mut env: BTreeMap<String, String>,
    credentials: &Credentials,
    hostname: &str,
    terminal: bool,
) -> BTreeMap<String, String> {
    let mut set_default = |name: &str, value: &str| {
        env.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    };
    set_default("PATH", DEFAULT_PATH);
    set_default("HOME", &credentials.home);
    set_default("HOSTNAME", hostname);
    if terminal {
        set_default("TERM", "xterm");
    }
    env
}

/// The paths at which `program` may be.
fn candidates(program: &str, path: &str) -> Vec<CString> {
    if program.contains('/') {
        return vec![c_string(program)];
    }
    path.split(':')
        .map(|directory| if directory.is_empty() { "." } else { directory })
        .map(|directory| c_string(&format!("{}/{program}", directory.trim_end_matches('/'))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(program: &str, path: &str) -> Vec<String> {
        candidates(program, path).into_iter().map(|c| c.into_string().expect("utf-8")).collect()
    }

    #[test]
    fn names_are_looked_up_in_path_and_paths_are_not() {
        assert_eq!(paths("ls", "/bin:/usr/bin/:"), ["/bin/ls", "/usr/bin/ls", "./ls"]);
        assert_eq!(paths("./ls", "/bin"), ["./ls"]);
        assert_eq!(paths("ls", "/"), ["/ls"]);
    }

    #[test]
    fn variables_of_the_request_are_kept() {
        let credentials = Credentials { uid: 0, gid: 0, groups: vec![], home: "/root".into() };
        let env = environment([("HOME".into(), "/x".into())].into(), &credentials, "box", true);
        assert_eq!((&*env["HOME"], &*env["HOSTNAME"], &*env["TERM"]), ("/x", "box", "xterm"));
        assert_eq!(env["PATH"], DEFAULT_PATH);
    }
}
