//! QEMU: installed, new enough, and with the machine type and the firmware that mimeo uses.

use std::path::Path;
use std::process::Command;

use mimeo_vmm::qemu::FIRMWARE;

use super::Check;

const PROGRAM: &str = "qemu-system-x86_64";
const INSTALL: &str = "apt-get install --no-install-recommends qemu-system-x86";
const INSTALL_FIRMWARE: &str = "apt-get install --reinstall qemu-system-data";
/// The first version with all features that mimeo uses, and the oldest that was tested.
const OLDEST: (u32, u32) = (7, 2);

pub(super) fn checks() -> Vec<Check> {
    let Some(version_output) = run_qemu("--version") else {
        return vec![Check::missing("qemu", format!("{PROGRAM} is not on the PATH"), INSTALL)];
    };
    let output = |arguments| run_qemu(arguments).unwrap_or_default();
    vec![version(&version_output), machine_type(&output("-machine help")), firmware(&output("-L help"))]
}

fn version(output: &str) -> Check {
    let shown = output.lines().next().unwrap_or_default();
    match parse_version(output) {
        Some(version) if version >= OLDEST => Check::ok("qemu", shown),
        Some(_) => Check::missing("qemu", format!("{shown}: older than {}.{}", OLDEST.0, OLDEST.1), INSTALL),
        None => Check::limited("qemu", format!("unknown version: {shown}"), None),
    }
}

fn machine_type(list: &str) -> Check {
    const NAME: &str = "qemu-microvm";
    if list.lines().any(|line| line.starts_with("microvm ")) {
        return Check::ok(NAME, "machine type microvm is available");
    }
    Check::missing(NAME, "this QEMU has no machine type microvm", INSTALL)
}

/// `directories` lists the directories that QEMU searches for firmware, one per line.
fn firmware(directories: &str) -> Check {
    const NAME: &str = "qemu-firmware";
    let found = directories.lines().map(|line| Path::new(line).join(FIRMWARE)).find(|path| path.is_file());
    match found {
        Some(path) => Check::ok(NAME, path.display().to_string()),
        None => Check::missing(
            NAME,
            format!("{FIRMWARE} is in none of QEMU's data directories"),
            INSTALL_FIRMWARE,
        ),
    }
}

/// `QEMU emulator version 7.2.22 (Debian ...)`.
fn parse_version(output: &str) -> Option<(u32, u32)> {
    let mut numbers = output.split("version ").nth(1)?.split(['.', ' ', '\n']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn run_qemu(arguments: &str) -> Option<String> {
    let output = Command::new(PROGRAM).args(arguments.split(' ')).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Status;

    #[test]
    fn versions_are_compared_as_numbers() {
        let status = |text| version(text).status;
        assert_eq!(status("QEMU emulator version 10.0.2 (Debian)"), Status::Ok);
        assert_eq!(status("QEMU emulator version 7.2.22\nCopyright"), Status::Ok);
        assert_eq!(status("QEMU emulator version 6.9.0"), Status::Missing);
        assert_eq!(status("something else"), Status::Limited);
    }

    #[test]
    fn the_machine_type_is_matched_as_a_whole_word() {
        assert_eq!(machine_type("microvm              microvm (i386)\n").status, Status::Ok);
        assert_eq!(machine_type("none\npc\n").status, Status::Missing);
    }

    #[test]
    fn the_firmware_is_searched_for_in_every_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        let directories = format!("/nowhere\n{}\n", dir.path().display());
        let check = firmware(&directories);
        assert_eq!((check.status, check.hint.as_deref()), (Status::Missing, Some(INSTALL_FIRMWARE)));
        std::fs::write(dir.path().join(FIRMWARE), "").expect("written");
        assert_eq!(firmware(&directories).status, Status::Ok);
    }
}
