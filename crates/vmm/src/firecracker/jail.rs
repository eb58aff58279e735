//! A jail: Firecracker started by its jailer, as a user without other files or processes, in a root directory
//! that holds nothing else.
//!
//! The files that it may use are bind-mounted into its root, in a mount namespace that ends with it. They may
//! be on any filesystem and are not copied; shared ones are mounted read-only. Files owned by root are made
//! accessible: the machine's own disk by a change of owner, shared files by [`SHARED_GID`].

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::cgroup::Cgroup;
use super::layout::{Access, prepare_error};
use super::names;
use crate::{LaunchError, LaunchSpec, program};

/// The group of all jailed Firecrackers, which owns the files that several of them read.
///
/// IDs from here to 2147483646 are not assigned by any system: systemd's ranges of users and groups end
/// before, and signed 32-bit numbers end after.
pub const SHARED_GID: u32 = 0x7000_0000;
/// How many user ids follow that group's id.
const USER_COUNT: u64 = 0x0fff_fffe;

/// The jail's directory, in the machine's directory.
const JAIL_DIR: &str = "jail";
/// A longer name would leave no space for the rest of an id, which has 64 bytes at most.
const MAX_NAME_LENGTH: usize = 40;
/// Names the jailer, if it is neither beside Firecracker nor in PATH.
const JAILER_VARIABLE: &str = "MIMEO_JAILER";

/// The user id for the jail of a machine in `directory`. Two machines have the same one with a probability of
/// 2^-28; even then their mount namespaces separate them.
#[must_use]
pub fn uid(directory: &Path) -> u32 {
    SHARED_GID + 1 + (digest(directory) % USER_COUNT) as u32
}

/// FNV-1a: stable across hosts and versions.
fn digest(directory: &Path) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    directory.as_os_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The jail of one machine.
#[derive(Debug)]
pub(super) struct Jail {
    directory: PathBuf,
    jailer: PathBuf,
    program: PathBuf,
    root: PathBuf,
    id: String,
    uid: u32,
    cgroup: Option<Cgroup>,
}

impl Jail {
    /// Creates the jail's root, after removing leftovers of an earlier run.
    pub(super) fn create(
        spec: &LaunchSpec,
        directory: &Path,
        program: &Path,
        jailer: PathBuf,
    ) -> Result<Self, LaunchError> {
        let program = fs::canonicalize(program).map_err(|source| prepare_error("open", program, source))?;
        let base = directory.join(JAIL_DIR);
        remove_jail(directory).map_err(|source| prepare_error("remove", &base, source))?;
        let id = machine_id(&spec.name, directory);
        let root = base.join(program.file_name().unwrap_or_default()).join(&id).join("root");
        fs::create_dir_all(&root).map_err(|source| prepare_error("create", &root, source))?;
        let cgroup = Cgroup::plan(&id, spec, directory);
        Ok(Self { directory: directory.to_owned(), jailer, program, root, id, uid: uid(directory), cgroup })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn jailer(&self) -> &Path {
        &self.jailer
    }

    /// The jailer's arguments; Firecracker's own follow.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["--id".into(), (&self.id).into()];
        arguments.extend(["--exec-file".into(), (&self.program).into()]);
        arguments.extend(["--uid".into(), self.uid.to_string().into()]);
        arguments.extend(["--gid".into(), SHARED_GID.to_string().into()]);
        arguments.extend(["--chroot-base-dir".into(), self.directory.join(JAIL_DIR).into()]);
        arguments.extend(self.cgroup.iter().flat_map(Cgroup::arguments));
        arguments.push("--".into());
        arguments
    }

    /// Whether the jailed user may read a file as it is.
    pub(super) fn may_read(&self, file: &Path) -> io::Result<bool> {
        Ok(is_permitted(&fs::metadata(file)?, 0o4))
    }

    /// Gives the jailed user access to a file that is mounted into its root.
    pub(super) fn grant(&self, file: &Path, access: Access) -> io::Result<()> {
        let metadata = fs::metadata(file)?;
        let rights = match access {
            Access::Own => return self.change_owner(file),
            Access::Read | Access::ReadOnce => 0o4,
            Access::Connect if metadata.file_type().is_socket() => 0o6,
            Access::Connect => return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a socket")),
        };
        if !is_permitted(&metadata, rights) {
            chown(file, None, Some(SHARED_GID))?;
            fs::set_permissions(file, Permissions::from_mode(metadata.mode() & 0o7777 | rights << 3))?;
        }
        Ok(())
    }

    /// Makes the jailed user the owner of a file.
    pub(super) fn change_owner(&self, file: &Path) -> io::Result<()> {
        chown(file, Some(self.uid), Some(SHARED_GID))?;
        fs::set_permissions(file, Permissions::from_mode(0o600))
    }

    /// Removes the jail. Its processes must have exited.
    pub(super) fn remove(&self) {
        if let Some(cgroup) = &self.cgroup {
            cgroup.remove();
        }
        if let Err(error) = remove_jail(&self.directory) {
            tracing::warn!(directory = %self.directory.display(), %error, "cannot remove the jail");
        }
    }
}

/// Whether all users, or the group of jailed users, have these rights to a file.
fn is_permitted(file: &fs::Metadata, rights: u32) -> bool {
    let (any, group) = (rights, rights << 3);
    file.mode() & any == any || (file.gid() == SHARED_GID && file.mode() & group == group)
}

/// Removes what a machine's Firecracker left in the machine's directory when its supervisor was killed, with
/// its jail and its cgroup. True if there was a jail. Firecracker must have exited: it ends with its
/// supervisor.
///
/// # Errors
/// When a file or the jail cannot be removed.
pub fn sweep(directory: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(directory)?.flatten() {
        if entry.file_name().to_str().is_some_and(names::is_temporary) {
            fs::remove_file(entry.path())?;
        }
    }
    remove_jail(directory)
}

/// Removes the jail in a machine's directory, if there is one.
fn remove_jail(directory: &Path) -> io::Result<bool> {
    let base = directory.join(JAIL_DIR);
    for id in jail_ids(&base) {
        Cgroup::sweep(&id);
    }
    match fs::remove_dir_all(&base) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The ids of the machines whose jails are there.
fn jail_ids(base: &Path) -> Vec<String> {
    let entries = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten();
    entries(base.to_owned())
        .flat_map(|program| entries(program.path()))
        .filter_map(|jail| jail.file_name().into_string().ok())
        .collect()
}

/// A machine's id for Firecracker: letters, digits and hyphens, 64 at most.
pub(super) fn machine_id(name: &str, directory: &Path) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let name: String = name.chars().map(plain).take(MAX_NAME_LENGTH).collect();
    format!("{name}-{:016x}", digest(directory))
}

/// Finds the jailer: the one that `MIMEO_JAILER` names, or the one beside Firecracker, or the one in PATH.
pub(super) fn find_jailer(firecracker: &Path) -> Option<PathBuf> {
    let named = std::env::var_os(JAILER_VARIABLE).map(PathBuf::from);
    named
        .into_iter()
        .chain(jailers_beside(firecracker))
        .chain(program::find_program(Path::new("jailer")))
        .find(|path| path.is_file())
}

/// In a release both have the same suffix: `firecracker-v1.16.1-x86_64`.
fn jailers_beside(firecracker: &Path) -> Vec<PathBuf> {
    let real = fs::canonicalize(firecracker).unwrap_or_else(|_| firecracker.to_owned());
    [firecracker, &real]
        .into_iter()
        .filter_map(|path| {
            let suffix = path.file_name()?.to_str()?.strip_prefix("firecracker")?;
            Some(path.with_file_name(format!("jailer{suffix}")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_distinct_and_stable() {
        let (a, b) = (uid(Path::new("/machines/a")), uid(Path::new("/machines/b")));
        assert_ne!(a, b);
        assert_eq!(a, uid(Path::new("/machines/a")));
        assert!([a, b].iter().all(|uid| (SHARED_GID + 1..=0x7fff_fffe).contains(uid)));
    }

    #[test]
    fn a_machine_id_is_valid_for_firecracker() {
        let id = machine_id(&"a web_server.".repeat(9), Path::new("/m"));
        assert!(id.len() <= 64 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{id}");
        assert!(id.starts_with("a-web-server-"));
    }

    #[test]
    fn the_jailer_beside_has_the_same_suffix() {
        let found = jailers_beside(Path::new("/opt/firecracker-v1.16.1-x86_64"));
        assert_eq!(found[0], Path::new("/opt/jailer-v1.16.1-x86_64"));
        assert!(jailers_beside(Path::new("/opt/other")).is_empty());
    }
}
