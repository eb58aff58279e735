//! Step 4 for a whole system: its host name, the files that hold it, its machine id, and the instance that cloud-init knows.

use std::path::Path;

use mimeo_agent_protocol::message::{Failure, Identity};
use rustix::system::sethostname;

use super::step_log::StepSuccess;
use crate::blocking::{ContainerRoot, run_in_container};
use crate::failure::{Context, SystemError};
use crate::machine::{Container, Machine};
use crate::names::Names;

const HOSTNAME: &str = "/etc/hostname";
const HOSTS: &str = "/etc/hosts";
const MACHINE_ID: &str = "/etc/machine-id";
/// Where some systems have a copy of the machine id instead of a link to it.
const DBUS_ID: &str = "/var/lib/dbus/machine-id";
/// cloud-init's directory of instances, and its link to the current one.
const INSTANCES: &str = "/var/lib/cloud/instances";
const CURRENT_INSTANCE: &str = "/var/lib/cloud/instance";
const INSTANCE_ID: &str = "/var/lib/cloud/data/instance-id";

/// What the system is to be called.
#[derive(Debug)]
struct NewNames {
    hostname: String,
    /// The name before.
    previous: String,
    machine_id: String,
}

pub(super) async fn apply(
    machine: &Machine,
    system: &Container,
    identity: &Identity,
) -> Result<StepSuccess, Failure> {
    let previous = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let machine_id = Names::from(identity).machine_id().unwrap_or_default();
    let names = NewNames { hostname: identity.hostname.clone(), previous, machine_id };
    sethostname(identity.hostname.as_bytes()).context("set the host name")?;
    let root = ContainerRoot::MountNamespace(system.mount_ns.clone());
    run_in_container(root, move || Ok(write_all(&names)?)).await?;
    machine.set_hostname(&identity.hostname);
    Ok(StepSuccess::Done)
}

fn write_all(names: &NewNames) -> Result<(), SystemError> {
    replace(HOSTNAME, &format!("{}\n", names.hostname))?;
    let hosts = std::fs::read_to_string(HOSTS).unwrap_or_default();
    replace(HOSTS, &rename_host(&hosts, &names.previous, &names.hostname))?;
    for path in [MACHINE_ID, DBUS_ID] {
        if is_file(path) {
            replace(path, &names.machine_id)?;
        }
    }
    rename_instance(&names.hostname)
}

/// Whether this is a file, and not a link to one.
fn is_file(path: &str) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
}

/// Replaces the name where it is a whole word, also as the first label of a longer name.
fn rename_host(hosts: &str, previous: &str, hostname: &str) -> String {
    let rename = |word: &str| match word.strip_prefix(previous) {
        Some(rest) if !previous.is_empty() && (rest.is_empty() || rest.starts_with('.')) => {
            format!("{hostname}{rest}")
        }
        _ => word.to_owned(),
    };
    let words = |line: &str| {
        line.split(' ')
            .map(|part| part.split('\t').map(rename).collect::<Vec<_>>().join("\t"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    hosts.split('\n').map(words).collect::<Vec<_>>().join("\n")
}

/// Tells cloud-init that it has configured this instance already: that of the seed.
fn rename_instance(id: &str) -> Result<(), SystemError> {
    let Ok(current) = std::fs::read_link(CURRENT_INSTANCE) else { return Ok(()) };
    let (from, to) =
        (Path::new(INSTANCES).join(current.file_name().unwrap_or_default()), Path::new(INSTANCES).join(id));
    if from == to {
        return Ok(());
    }
    std::fs::rename(&from, &to).context("rename cloud-init's instance")?;
    std::fs::remove_file(CURRENT_INSTANCE).context("replace cloud-init's link to its instance")?;
    std::os::unix::fs::symlink(&to, CURRENT_INSTANCE).context("replace cloud-init's link to its instance")?;
    replace(INSTANCE_ID, &format!("{id}\n"))
}

/// Replaces a file, whole or not at all. It keeps its mode.
fn replace(path: &str, content: &str) -> Result<(), SystemError> {
    let action = || format!("write {path}");
    let new = format!("{path}.mimeo-new");
    std::fs::write(&new, content).context(action())?;
    if let Ok(found) = std::fs::metadata(path) {
        std::fs::set_permissions(&new, found.permissions()).context(action())?;
    } else {
        std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .context(action())?;
    }
    std::fs::rename(&new, path).context(action())
}

#[cfg(test)]
mod tests {
    use super::rename_host;

    #[test]
    fn only_whole_names_are_replaced() {
        let hosts = "127.0.0.1 localhost\n127.0.1.1\tdev.example dev\n10.0.0.1 devel my-dev\n";
        let renamed = "127.0.0.1 localhost\n127.0.1.1\tc1.example c1\n10.0.0.1 devel my-dev\n";
        assert_eq!(rename_host(hosts, "dev", "c1"), renamed);
        assert_eq!(rename_host(hosts, "", "c1"), hosts);
    }
}
