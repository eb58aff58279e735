//! Step 7: generates new SSH host keys, where the source has any. The container's
//! own ssh-keygen generates them: it knows the formats that the container's sshd reads.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use mimeo_agent_protocol::message::{Failure, FailureKind, Identity};
use rustix::process::{Pid, Signal, kill_process};

use super::program;
use super::step_log::StepSuccess;
use crate::blocking::{ContainerRoot, run_in_container};
use crate::cgroup;
use crate::failure::{Context, SystemError, failure};
use crate::machine::{Container, Machine};

const DIRECTORY: &str = "/etc/ssh";
/// The file of a new key, in the directory of the key that it replaces.
const TEMPORARY_KEY: &str = "/etc/ssh/.mimeo-new-key";
/// Timeout of one key: RSA searches for large primes, possibly under emulation.
const KEYGEN_TIMEOUT: Duration = Duration::from_secs(120);
const SERVER_NAME: &str = "sshd";

/// A host key: its file, and its type as ssh-keygen names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    path: String,
    kind: String,
}

pub(super) async fn apply(
    machine: &Machine,
    container: &Container,
    identity: &Identity,
    keys: Result<Vec<Key>, Failure>,
) -> Result<StepSuccess, Failure> {
    let keys = keys?;
    if keys.is_empty() || identity.warm_up {
        return Ok(StepSuccess::NotNeeded);
    }
    // A clone from a pool gets its identity twice, and generating keys takes long.
    if machine.ssh_keys_generation().as_ref() == Some(&identity.vm_generation) {
        return Ok(StepSuccess::DoneWith("already applied".to_owned()));
    }
    for key in &keys {
        let result = replace_key(machine, container, key).await;
        result.map_err(|failed| failure(failed.kind, format!("{}: {failed}", key.path)))?;
    }
    let kinds: Vec<&str> = keys.iter().map(|key| &*key.kind).collect();
    hang_up_servers(container.is_system());
    machine.ssh_keys_generation().replace(identity.vm_generation.clone());
    Ok(StepSuccess::DoneWith(kinds.join(" ")))
}

async fn replace_key(machine: &Machine, container: &Container, key: &Key) -> Result<(), Failure> {
    let root = || ContainerRoot::MountNamespace(container.mount_ns.clone());
    run_in_container(root(), || Ok(remove_temporary_key()?)).await?;
    let args = ["ssh-keygen", "-q", "-N", "", "-t", &key.kind, "-f", TEMPORARY_KEY].map(str::to_owned).into();
    program::run(machine, container, args, BTreeMap::new(), KEYGEN_TIMEOUT).await?;
    let path = key.path.clone();
    run_in_container(root(), move || Ok(rename_over(&path)?)).await
}

/// Removes the leftovers of an earlier attempt: ssh-keygen overwrites no file.
fn remove_temporary_key() -> Result<(), SystemError> {
    for path in [TEMPORARY_KEY.to_owned(), format!("{TEMPORARY_KEY}.pub")] {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(SystemError::new(format!("remove {path}"), error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn rename_over(path: &str) -> Result<(), SystemError> {
    std::fs::rename(format!("{TEMPORARY_KEY}.pub"), format!("{path}.pub"))
        .context("replace the public key")?;
    std::fs::rename(TEMPORARY_KEY, path).context("replace the key")
}

/// Lists the host keys in /etc/ssh.
pub(super) fn list() -> Result<Vec<Key>, Failure> {
    let entries = match std::fs::read_dir(DIRECTORY) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(SystemError::new(format!("list {DIRECTORY}"), error).into()),
    };
    let mut keys = Vec::new();
    for entry in entries {
        let name = entry.context(format!("list {DIRECTORY}"))?.file_name().to_string_lossy().into_owned();
        let path = format!("{DIRECTORY}/{name}");
        if is_host_key(&name) && Path::new(&path).is_file() {
            let kind = key_type(&name, &path)
                .ok_or_else(|| failure(FailureKind::System, format!("{path}: unknown key type")))?;
            keys.push(Key { path, kind });
        }
    }
    keys.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(keys)
}

fn is_host_key(name: &str) -> bool {
    name.starts_with("ssh_host_") && name.ends_with("_key")
}

/// A key's type, by its public key, or else by its name.
fn key_type(name: &str, path: &str) -> Option<String> {
    let public = std::fs::read_to_string(format!("{path}.pub")).unwrap_or_default();
    let known = |kind: &&str| ["rsa", "ecdsa", "ed25519", "dsa"].contains(kind);
    let by_name = name.strip_prefix("ssh_host_").and_then(|name| name.strip_suffix("_key"));
    type_of_public_key(&public).or(by_name.filter(known)).map(str::to_owned)
}

/// The type of a public key, as ssh-keygen names it.
fn type_of_public_key(public: &str) -> Option<&'static str> {
    match public.split_whitespace().next()? {
        "ssh-ed25519" => Some("ed25519"),
        "ssh-rsa" => Some("rsa"),
        "ssh-dss" => Some("dsa"),
        word if word.starts_with("ecdsa-") => Some("ecdsa"),
        _ => None,
    }
}

/// Sends SIGHUP to each sshd, which rereads its keys after the thaw. The processes
/// that it forked for its sessions get none: it would end them.
fn hang_up_servers(is_system: bool) {
    let servers = cgroup::workload_pids(is_system).into_iter().filter(|pid| is_server(*pid));
    for pid in servers.filter_map(Pid::from_raw) {
        // This does not fail: the processes are frozen, so that none ends meanwhile.
        kill_process(pid, Signal::HUP).ok();
    }
}

fn is_server(pid: i32) -> bool {
    let by_name = |pid: i32| cgroup::read_stat(pid).filter(|stat| stat.name == SERVER_NAME);
    by_name(pid).is_some_and(|stat| by_name(stat.ppid).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_keys_and_their_types_are_recognised() {
        assert!(is_host_key("ssh_host_rsa_key"));
        assert!(!is_host_key("ssh_host_rsa_key.pub") && !is_host_key("sshd_config"));
        assert_eq!(type_of_public_key("ecdsa-sha2-nistp256 AAAA root@box\n"), Some("ecdsa"));
        assert_eq!(type_of_public_key(""), None);
        let kind = |name: &str| key_type(name, "/nonexistent");
        assert_eq!(kind("ssh_host_ed25519_key").as_deref(), Some("ed25519"));
        assert_eq!(kind("ssh_host_other_key"), None);
    }
}
