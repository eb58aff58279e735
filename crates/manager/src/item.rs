//! A machine as the API shows it, from its record.

use jiff::Timestamp;
use mimeo_engine::machine::{Found, NetworkRecord, Phase, Record};
use mimeo_manager_api::{Exit, Health, Machine, MachineNetwork, MachineState, PublishedPort, Stage};

/// A machine that was requested, and of which nothing else is known yet.
pub(crate) fn requested(id: String, name: String, owner: String) -> Machine {
    Machine {
        id,
        name,
        owner,
        labels: std::collections::BTreeMap::new(),
        state: MachineState::Creating,
        version: 1,
        image: String::new(),
        image_id: None,
        command: Vec::new(),
        cpus: 0,
        memory_mib: 0,
        disk_bytes: 0,
        driver: String::new(),
        accelerator: None,
        boot_method: None,
        boot_reason: None,
        snapshot: None,
        vm_generation: None,
        network: None,
        health: None,
        restart: String::new(),
        restart_count: 0,
        supervisor_pid: None,
        exit: None,
        failure: None,
        stage: None,
        stages: Vec::new(),
        operation: None,
        created_at: Timestamp::now(),
        started_at: None,
        finished_at: None,
        expires_at: None,
        ended_at: None,
        ended_reason: None,
    }
}

/// The state of a machine with this record. A machine without a supervisor has exited, whatever its record says.
pub(crate) fn state(found: &Found) -> MachineState {
    match found.record.phase() {
        Phase::Created => MachineState::Created,
        phase if phase.is_live() && !found.supervised => MachineState::Exited,
        Phase::Creating => MachineState::Creating,
        Phase::Running => MachineState::Running,
        Phase::Paused | Phase::DiskError => MachineState::Paused,
        Phase::Stopping => MachineState::Stopping,
        Phase::Restarting => MachineState::Restarting,
        Phase::Exited => MachineState::Exited,
    }
}

/// Writes what the record says into the item, except for the state.
pub(crate) fn describe(item: &mut Machine, found: &Found) {
    let Record { spec, image, process, times, .. } = &found.record;
    item.name = found.record.name.to_string();
    item.labels.clone_from(&spec.labels);
    describe_spec(item, spec);
    item.image_id = image.as_ref().map(|image| image.id.clone());
    item.command.clone_from(&process.args);
    item.driver.clone_from(&spec.driver);
    item.accelerator.clone_from(&found.record.accelerator);
    item.boot_method.clone_from(&found.record.boot_method);
    item.boot_reason.clone_from(&found.record.boot_reason);
    item.snapshot = found.record.origin.as_ref().map(ToString::to_string);
    item.vm_generation.clone_from(&found.record.vm_generation);
    item.network = found.record.network.as_ref().map(network);
    item.health = found.record.health.as_ref().map(|health| Health {
        status: health.status.to_string(),
        failing_streak: health.failing_streak,
        last_failure: health.last_failure.clone(),
    });
    item.restart_count = found.record.restart_count;
    item.supervisor_pid = found.supervised.then_some(found.record.supervisor.pid);
    item.exit = found.record.last_exit().map(|exit| Exit {
        code: exit.code,
        out_of_memory: exit.out_of_memory,
        error: exit.error.clone(),
    });
    item.started_at = times.started;
    item.finished_at = times.finished;
    if !times.stages.is_empty() {
        item.stages = times.stages.iter().map(|(name, ms)| Stage { name: name.clone(), ms: *ms }).collect();
    }
}

/// Writes what was requested into the item.
pub(crate) fn describe_spec(item: &mut Machine, spec: &mimeo_engine::MachineSpec) {
    item.image.clone_from(&spec.image);
    item.cpus = spec.cpus;
    item.memory_mib = spec.memory_mib;
    item.disk_bytes = spec.disk_bytes;
    item.driver.clone_from(&spec.driver);
    item.restart = spec.restart.to_string();
}

fn network(record: &NetworkRecord) -> MachineNetwork {
    MachineNetwork {
        mode: if record.outer.is_some() { "bridged" } else { "rootless" }.to_owned(),
        ip: record.address().to_string(),
        ip6: record.outer.and_then(|outer| outer.ip6).map(|ip| ip.to_string()),
        mac: record.mac.to_string(),
        ports: record.ports.iter().map(port).collect(),
    }
}

/// A published port as the API shows it.
pub(crate) fn port(mapping: &mimeo_net::PortMapping) -> PublishedPort {
    PublishedPort {
        container_port: mapping.guest_port,
        host_port: mapping.host_port,
        host_ip: mapping.host_ip.to_string(),
        protocol: mapping.protocol.to_string(),
    }
}
