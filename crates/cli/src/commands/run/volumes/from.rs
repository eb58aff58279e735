//! `--volumes-from`: the directories of the host and the named volumes of another machine.

use mimeo_engine::Selector;
use mimeo_engine::machine::{Found, MachineSpec, Record, VolumeMount, VolumeSpec};

use crate::backend::Host;
use crate::error::CliError;
use crate::view::ImageNames;

/// How the mounts of another machine are used.
#[derive(Debug, PartialEq, Eq)]
struct Request<'a> {
    machine: &'a str,
    /// `None`: as the other machine has it.
    read_only: Option<bool>,
}

/// Adds the mounts of the machine that `MACHINE[:OPTIONS]` names, except where the spec has one already.
pub(super) async fn add_mounts_of(host: &Host, text: &str, spec: &mut MachineSpec) -> Result<(), CliError> {
    let request = parse(text)?;
    let invalid = |reason: String| CliError::usage(format!("cannot use --volumes-from {text}: {reason}"));
    let found = host.find(&Selector::NameOrId(request.machine.to_owned())).await;
    let found = found.map_err(|error| invalid(CliError::from(error).to_string()))?;
    let names = ImageNames::load(host).await?;
    let taken = targets(spec);
    let is_free = |target: &str| !taken.contains(&plain(target));
    refuse_anonymous(&names, &found, &is_free).map_err(invalid)?;
    for volume in &found.record.spec.volumes {
        if is_free(&volume.guest) {
            let read_only = request.read_only.unwrap_or(volume.read_only);
            spec.volumes.push(VolumeSpec { read_only, ..volume.clone() });
        }
    }
    for mount in &found.record.spec.volume_mounts {
        if is_free(&mount.target) {
            let read_only = request.read_only.unwrap_or(mount.read_only);
            spec.volume_mounts.push(VolumeMount { read_only, ..mount.clone() });
        }
    }
    Ok(())
}

/// Refuses a machine whose anonymous volumes would be shared: they are on its own disk, and so are a clone's copies of
/// named volumes.
fn refuse_anonymous(names: &ImageNames, found: &Found, is_free: &dyn Fn(&str) -> bool) -> Result<(), String> {
    let record = &found.record;
    let own = record.spec.volume_mounts.iter().filter(|mount| is_own(record, mount));
    let own = own.map(|mount| mount.target.clone());
    let declared = names.declared_volumes(record);
    match own.chain(declared).find(|target| is_free(target)) {
        Some(target) => Err(format!(
            "the volume at {target} is on the disk of machine {}, which no other machine can use: give both machines a \
             named volume there (--volume NAME:{target})",
            record.name
        )),
        None => Ok(()),
    }
}

fn is_own(record: &Record, mount: &VolumeMount) -> bool {
    let Some(name) = &mount.name else { return true };
    record.volumes.iter().any(|disk| disk.own && disk.name == *name)
}

fn targets(spec: &MachineSpec) -> Vec<String> {
    let host = spec.volumes.iter().map(|volume| plain(&volume.guest));
    let volumes = spec.volume_mounts.iter().map(|mount| plain(&mount.target));
    let tmpfs = spec.container.tmpfs.iter().map(|tmpfs| plain(&tmpfs.target));
    host.chain(volumes).chain(tmpfs).collect()
}

fn plain(target: &str) -> String {
    target.trim_end_matches('/').to_owned()
}

fn parse(text: &str) -> Result<Request<'_>, CliError> {
    let (machine, options) = text.split_once(':').unwrap_or((text, ""));
    let invalid = |reason: String| CliError::usage(format!("--volumes-from {text:?} {reason}"));
    if machine.is_empty() {
        return Err(invalid("names no machine".to_owned()));
    }
    let mut read_only = None;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let access = match option {
            "ro" => true,
            "rw" => false,
            "z" | "Z" => continue,
            _ => return Err(invalid(format!("has an unknown option {option:?}: use ro, rw or z"))),
        };
        if read_only.replace(access).is_some() {
            return Err(invalid("has ro or rw more than once".to_owned()));
        }
    }
    Ok(Request { machine, read_only })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_podmans() {
        let parsed = |text| parse(text).map(|request| (request.machine, request.read_only)).ok();
        assert_eq!(parsed("db"), Some(("db", None)));
        assert_eq!(parsed("db:ro"), Some(("db", Some(true))));
        assert_eq!(parsed("db:z,rw"), Some(("db", Some(false))));
        for bad in ["", ":ro", "db:shiny", "db:ro,rw", "db:ro:rw"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
