//! The machine's metadata in the container's /run/mimeo. The agent has a directory
//! for it, which is bound there read-only. Each file is replaced by a rename, so
//! that a watcher of the directory sees the change and a reader sees complete files.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use mimeo_agent_protocol::message::{Failure, FailureKind};
use rustix::mount::{MountFlags, mount_bind, mount_remount};

use crate::boot;
use crate::console::log;
use crate::failure::{Context, SystemError, failure};
use crate::rootfs::{Root, fd_path};

const DIRECTORY: &str = "/run/mimeo/metadata";
const TARGET: &str = "/run/mimeo";

/// Creates the directory, if it does not exist.
pub(crate) fn prepare() -> Result<(), SystemError> {
    boot::create_directory("/run/mimeo")?;
    boot::create_directory(DIRECTORY)
}

/// Binds the directory into the container.
pub(crate) fn bind(root: &Root) -> Result<(), SystemError> {
    let target = root.directory(TARGET)?;
    mount_bind(DIRECTORY, fd_path(&target)).context(format!("bind {TARGET}"))?;
    // The path is the bind mount now. Only a remount can make it read-only.
    let mounted = root.directory(TARGET)?;
    let restricted = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_remount(fd_path(&mounted), MountFlags::BIND | MountFlags::RDONLY | restricted, c"")
        .context(format!("restrict {TARGET}"))
}

/// Removes all metadata.
pub(crate) fn clear() {
    for name in ["generation", "env"] {
        let path = format!("{DIRECTORY}/{name}");
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            log(&format!("cannot remove {path}: {error}"));
        }
    }
}

/// Writes the VM generation, a UUID.
pub(crate) fn write_vm_generation(uuid: &str) -> Result<(), Failure> {
    if !is_uuid(uuid) {
        return Err(failure(FailureKind::Invalid, "the VM generation is not a UUID"));
    }
    Ok(replace_file("generation", &format!("{uuid}\n"), 0o644)?)
}

/// Writes the machine's environment. Only root may read it.
pub(crate) fn write_environment(env: &BTreeMap<String, String>) -> Result<(), Failure> {
    let text = format_environment(env)?;
    Ok(replace_file("env", &text, 0o600)?)
}

/// Formats one `KEY=VALUE` a line, the value verbatim. A value that has several
/// lines, or begins with a double quote, is put in double quotes, with `\n`, `\"`
/// and `\\` as escapes. Invalid names and values are errors.
fn format_environment(env: &BTreeMap<String, String>) -> Result<String, Failure> {
    let mut text = String::new();
    for (name, value) in env {
        if name.is_empty() || name.contains(['=', '\0', '\n']) {
            let name = name.escape_default();
            return Err(failure(FailureKind::Invalid, format!("invalid name of a variable: `{name}`")));
        }
        if value.contains('\0') {
            return Err(failure(
                FailureKind::Invalid,
                format!("invalid value of the variable {name}: it contains a NUL"),
            ));
        }
        text.push_str(&format!("{name}={}\n", quote_value(value)));
    }
    Ok(text)
}

fn quote_value(value: &str) -> Cow<'_, str> {
    if !value.contains('\n') && !value.starts_with('"') {
        return value.into();
    }
    let escaped = value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
    format!("\"{escaped}\"").into()
}

fn replace_file(name: &str, text: &str, mode: u32) -> Result<(), SystemError> {
    let (temporary, target) = (format!("{DIRECTORY}/.{name}"), format!("{DIRECTORY}/{name}"));
    let write = || {
        let mut options = std::fs::File::options();
        options.write(true).create(true).truncate(true).mode(mode);
        // Root in the container can remount the bind writable and create a link here.
        let mut file = options.custom_flags(libc::O_NOFOLLOW).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&temporary, &target)
    };
    write().context(format!("write {TARGET}/{name}"))
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_five_groups_of_digits() {
        assert!(is_uuid("0198a1b2-0000-4000-8000-0123456789ab"));
        for invalid in [
            "",
            "0198a1b2000040008000-0123456789ab",
            "0198a1b2-0000-4000-8000-0123456789ag",
            "0198a1b2-0000-4000-8000-0123456789ab\n",
        ] {
            assert!(!is_uuid(invalid), "{invalid}");
        }
    }

    #[test]
    fn each_variable_takes_one_line() {
        let env = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        assert_eq!(format_environment(&env("A", "b=c d")).ok(), Some("A=b=c d\n".into()));
        let quoted = format_environment(&env("KEY", "a\nb\\n\"c\"")).expect("quoted");
        assert_eq!(quoted, "KEY=\"a\\nb\\\\n\\\"c\\\"\"\n");
        assert_eq!(format_environment(&env("A", "\"b\"")).ok(), Some("A=\"\\\"b\\\"\"\n".into()));
        for (name, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A\n", "x"), ("A", "x\0")] {
            assert!(format_environment(&env(name, value)).is_err(), "{name:?}={value:?}");
        }
    }
}
