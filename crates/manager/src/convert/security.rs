//! What a container may do.

use mimeo_agent_protocol::Capabilities;
use mimeo_agent_protocol::message::Tmpfs;
use mimeo_engine::machine::{ContainerOptions, MachineSpec};
use mimeo_manager_api as api;

use super::check::require;
use super::error::{ConvertError, Converted, InField};

/// Where a container with a read-only root can write, unless the user mounts something there.
const READ_ONLY_TMPFS: [&str; 3] = ["/run", "/tmp", "/var/tmp"];

/// Sets what the container of a spec may do. Its mounts are set already.
pub(super) fn apply(security: &api::Security, spec: &mut MachineSpec) -> Converted<()> {
    let container = &mut spec.container;
    container.cap_add = capabilities("security.cap_add", &security.cap_add)?;
    container.cap_drop = capabilities("security.cap_drop", &security.cap_drop)?;
    check_contradiction(container.cap_add, container.cap_drop)?;
    container.privileged = security.privileged;
    container.no_new_privileges = no_new_privileges(security)?;
    container.security_opt.clone_from(&security.security_opt);
    for (at, group) in security.groups.iter().enumerate() {
        let is_name = !group.is_empty() && !group.contains(|c: char| c.is_control() || c == ':');
        require(is_name, format!("security.groups[{at}]"), format!("{group:?} does not name a group"))?;
    }
    container.group_add.clone_from(&security.groups);
    container.umask = security.umask.as_deref().map(umask).transpose()?;
    container.read_only = security.read_only;
    if security.read_only && security.read_only_tmpfs.unwrap_or(true) {
        add_writable_directories(container);
    }
    Ok(())
}

fn capabilities(field: &str, names: &[String]) -> Converted<Capabilities> {
    let mut set = Capabilities::NONE;
    for (at, name) in names.iter().enumerate() {
        set = set.union(Capabilities::parse(name).in_field(format!("{field}[{at}]"))?);
    }
    Ok(set)
}

fn check_contradiction(add: Capabilities, drop: Capabilities) -> Converted<()> {
    let (all_added, all_dropped) = (add == Capabilities::ALL, drop == Capabilities::ALL);
    let contradicts =
        all_added && all_dropped || !all_added && !all_dropped && !add.intersection(drop).is_empty();
    require(!contradicts, "security.cap_drop", format!("{} is added, too", add.intersection(drop)))
}

/// Whether programs gain no privileges: as the field says, or the last option.
fn no_new_privileges(security: &api::Security) -> Converted<bool> {
    let mut requested = security.no_new_privileges;
    for (at, option) in security.security_opt.iter().enumerate() {
        let (name, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
        match (name, value) {
            ("no-new-privileges", "" | "true") => requested = true,
            ("no-new-privileges", "false") => requested = false,
            // Nothing of the kind confines a machine's processes: the guest has a kernel of its own.
            ("label", "disable") | ("seccomp" | "apparmor", "unconfined") => {}
            _ => {
                let message = format!(
                    "{option:?} has no effect in a guest, which has a kernel of its own: use no-new-privileges, \
                     label=disable, seccomp=unconfined or apparmor=unconfined"
                );
                return Err(ConvertError::new(format!("security.security_opt[{at}]"), message));
            }
        }
    }
    Ok(requested)
}

fn umask(text: &str) -> Converted<u32> {
    let is_octal = !text.is_empty() && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mask = u32::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777 && is_octal);
    mask.ok_or_else(|| {
        ConvertError::new("security.umask", format!("{text:?} is not a mask of octal digits, such as 0022"))
    })
}

fn add_writable_directories(container: &mut ContainerOptions) {
    for target in READ_ONLY_TMPFS {
        if !container.tmpfs.iter().any(|tmpfs| tmpfs.target == target) {
            container.tmpfs.push(Tmpfs { target: target.to_owned(), copy_up: true, ..Tmpfs::default() });
        }
    }
}

/// What the container of a spec may do. Its temporary filesystems are mounts of their own.
pub(super) fn api_security(options: &ContainerOptions) -> api::Security {
    api::Security {
        privileged: options.privileged,
        cap_add: names(options.cap_add),
        cap_drop: names(options.cap_drop),
        no_new_privileges: options.no_new_privileges,
        security_opt: options.security_opt.clone(),
        groups: options.group_add.clone(),
        read_only: options.read_only,
        read_only_tmpfs: options.read_only.then_some(false),
        umask: options.umask.map(|mask| format!("{mask:04o}")),
    }
}

fn names(set: Capabilities) -> Vec<String> {
    if set == Capabilities::ALL {
        return vec!["ALL".to_owned()];
    }
    set.names().into_iter().map(str::to_owned).collect()
}
