//! Removes what a supervisor left behind because it was killed or the host rebooted.

use std::fs;

use rustix::process::Signal;

use crate::cause::chain;
use crate::ignored::LogIgnored;
use crate::machine::{
    BOOTED_AS_CLONE, Found, LookupError, Phase, Record, Registry, State, lock_orphan, remove_dir,
};
use crate::{Engine, MachineId, MachineName, fork_decision, garbage, network};

/// A machine that the sweep cleaned up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Its name.
    pub name: MachineName,
    /// Whether it was removed: it had `--rm`, or it was a clone that never ran.
    pub removed: bool,
}

/// Kills what dead supervisors left running, and marks their machines as exited. Machines whose
/// supervisor runs are not touched.
///
/// # Errors
/// If the machines cannot be listed.
pub fn sweep(engine: &Engine) -> Result<Vec<Swept>, LookupError> {
    let registry = engine.registry();
    sweep_unfinished(&registry)?;
    let machines = registry.list_stored()?;
    for dir in registry.unreadable_dirs()? {
        let id = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let hint = format!("`mimeo rm --force {id}` removes it");
        tracing::warn!(component = "sweep", machine = %id, dir = %dir.display(), hint, "its record cannot be read");
    }
    sweep_sockets(engine, &machines);
    let swept = machines
        .into_iter()
        .filter(|found| !found.supervised)
        .filter_map(|found| mark_crashed(engine, found))
        .collect();
    network::sweep();
    engine.volumes().sweep();
    crate::snapshot_server::sweep(engine);
    garbage::sweep(engine);
    fork_decision::sweep(engine);
    garbage::sweep_snapshots(engine);
    Ok(swept)
}

/// Cleans up after the supervisor of one machine, as [`sweep`] does: for a process that knows which supervisor has died. What
/// belongs to no machine is left to the next [`sweep`].
#[must_use]
pub fn sweep_machine(engine: &Engine, id: &MachineId) -> Option<Swept> {
    let found = engine.registry().read_stored(id)?;
    if found.supervised { None } else { mark_crashed(engine, found) }
}

/// Removes the directories of machines that were only partly created. Under the registry's lock no machine is
/// being created.
fn sweep_unfinished(registry: &Registry) -> Result<(), LookupError> {
    if registry.unfinished_dirs()?.is_empty() {
        return Ok(());
    }
    // A process that cannot take this lock cannot create a machine either, and reports that then.
    let Ok(_registry_lock) = registry.lock() else { return Ok(()) };
    for dir in registry.unfinished_dirs()? {
        if let Err(error) = remove_dir(&dir) {
            tracing::warn!(component = "sweep", dir = %dir.display(), %error, "cannot remove an unfinished machine");
        }
    }
    Ok(())
}

/// Marks a machine as exited if it has no supervisor and did not exit normally, and removes it with `--rm`.
fn mark_crashed(engine: &Engine, mut found: Found) -> Option<Swept> {
    let registry = engine.registry();
    if !needs_sweep(&found.record) {
        if registry.has_spare_record(&found.record.id) {
            restore_record(&registry, &found);
        }
        return None;
    }
    // Another command may be sweeping, or the supervisor may be writing its last record.
    let _lock = lock_orphan(&found.dir)?;
    // The record may have been written since it was listed: the machine may have exited normally.
    found.record = registry.read_stored(&found.record.id)?.record;
    if !needs_sweep(&found.record) {
        return None;
    }
    let has_exited = !found.record.phase().is_live();
    // The kernel kills the VMM with its supervisor; this is for a VMM that survived.
    if let Some(Err(error)) = found.record.vmm.as_ref().map(|vmm| vmm.send(Signal::KILL)) {
        tracing::warn!(component = "sweep", machine = %found.record.name, %error, "cannot kill its VMM");
    }
    network::remove_leftovers(&found.record);
    if let Some(driver) = engine.driver(&found.record.spec.driver)
        && let Err(error) = driver.sweep(&found.dir)
    {
        tracing::warn!(component = "sweep", machine = %found.record.name, %error, "cannot remove its VMM's leftovers");
    }
    // A clone that never ran is removed: a fork has all of its clones or none.
    let is_clone = found.record.boot_method.as_deref() == Some(BOOTED_AS_CLONE);
    let never_ran = found.record.state == State::Creating && is_clone;
    if !has_exited && !never_ran {
        found.mark_crashed_if_orphan();
        let code = found.record.exit().map(|exit| exit.code.to_string()).unwrap_or_default();
        engine.events().record(&found.record, "died", &[("exit_code", code)]);
    }
    found.record.vmm = None;
    let record = &found.record;
    let is_temporary = record.spec.remove && record.state != State::Created;
    let swept = Swept { name: record.name.clone(), removed: is_temporary || never_ran };
    let result = if swept.removed {
        registry.remove(&record.id).map_err(|error| error.to_string())
    } else {
        let run = engine.home().machine_run(&record.id);
        remove_dir(&run).log_leftover(run);
        registry.store_orphan(&found).map_err(|error| chain(&error))
    };
    if let Err(error) = result {
        registry.remember_crash(&found.record.id);
        tracing::warn!(component = "sweep", machine = %swept.name, error, "cannot clean up");
        return None;
    }
    Some(swept)
}

/// Whether a machine without a supervisor has something to clean up.
fn needs_sweep(record: &Record) -> bool {
    match record.phase() {
        // A process that served the files of the machine's disk was killed.
        Phase::Created | Phase::Exited if record.vmm.is_some() => true,
        Phase::Created => false,
        Phase::Exited => record.spec.remove,
        _ => true,
    }
}

/// Writes a record to its place that had to be kept in the run directory when the machine exited.
fn restore_record(registry: &Registry, found: &Found) {
    let Some(_lock) = lock_orphan(&found.dir) else { return };
    // Another process may have written it, or removed the machine.
    let Some(found) = registry.read_stored(&found.record.id) else { return };
    if let Err(error) = registry.store_orphan(&found) {
        tracing::debug!(component = "sweep", machine = %found.record.name, "{}", chain(&error));
    }
}

/// Removes the socket directories of machines that no longer exist.
fn sweep_sockets(engine: &Engine, machines: &[Found]) {
    let Ok(entries) = fs::read_dir(engine.home().run().join("machines")) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let known = machines.iter().any(|found| name == found.record.id.short());
        if !known && !engine.home().machines().join(&name).exists() {
            remove_dir(&entry.path()).log_leftover(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_machine_is_swept_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::at(dir.path().join("home"), dir.path().join("run")).expect("a home");
        let engine = Engine::new(home);
        let registry = engine.registry();
        let running = || {
            let mut claim = registry.claim(MachineSpec::new("busybox")).expect("claimed");
            claim.record.state = State::Running;
            claim.store().expect("stored");
            claim.persist();
            claim
        };
        let (dead, other, alive) = (running(), running(), running());
        let [dead, other] = [dead, other].map(|claim| claim.record.id.clone());
        assert_eq!(sweep_machine(&engine, &alive.record.id), None);
        let swept = sweep_machine(&engine, &dead).expect("swept");
        assert!(!swept.removed);
        let phase = |id| registry.read(id).expect("found").record.phase();
        assert_eq!((phase(&dead), phase(&other)), (Phase::Exited, Phase::Running));
        assert_eq!(phase(&alive.record.id), Phase::Running);
        // A second sweep finds nothing, and neither does one of a machine that does not exist.
        assert_eq!(sweep_machine(&engine, &dead), None);
        assert_eq!(sweep_machine(&engine, &MachineId::random()), None);
    }
    use crate::{Home, MachineSpec};

    #[test]
    fn a_machine_being_created_is_not_swept() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::at(dir.path().join("home"), dir.path().join("run")).expect("a home");
        let engine = Engine::new(home);
        let sweeping = || {
            (0..300).for_each(|_| assert_eq!(sweep(&engine).expect("swept"), []));
        };
        std::thread::scope(|scope| {
            scope.spawn(sweeping);
            scope.spawn(sweeping);
            for _ in 0..300 {
                drop(engine.registry().claim(MachineSpec::new("busybox")).expect("claimed"));
            }
        });
        sweep(&engine).expect("swept");
        assert_eq!(fs::read_dir(engine.home().machines()).expect("readable").count(), 0);
    }
}
