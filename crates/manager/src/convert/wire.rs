//! The engine's spec becomes a request.

use mimeo_engine::log::LogConfig;
use mimeo_engine::machine::{ImageVolumes, MachineSpec, RegistryAccess, RestartPolicy};
use mimeo_engine::signal;
use mimeo_manager_api as api;

use super::choice::{api_accelerator, api_image_volumes, api_log, api_pull_policy, api_restart};
use super::health::{api_health, is_disabled};
use super::network::{api_exposed_port, api_network, api_port};
use super::resources::{api_cpus, api_resources};
use super::security::api_security;
use super::volumes::api_volumes;

/// Converts a spec into the request that creates such a machine.
#[must_use]
pub fn create_machine(spec: &MachineSpec) -> api::CreateMachine {
    api::CreateMachine {
        name: spec.name.as_ref().map(|name| name.as_str().to_owned()),
        image: Some(spec.image.clone()),
        command: spec.command.clone(),
        entrypoint: spec.entrypoint.clone(),
        env: spec.env.clone(),
        env_merge: spec.env_merge.clone(),
        unset_env: spec.unset_env.clone(),
        unset_all_env: spec.unset_all_env,
        workdir: spec.workdir.clone(),
        user: spec.user.clone(),
        hostname: spec.hostname.clone(),
        labels: spec.labels.clone(),
        annotations: spec.annotations.clone(),
        init: spec.init,
        tty: spec.tty,
        interactive: spec.interactive,
        no_healthcheck: is_disabled(spec),
        health: api_health(spec),
        ..with_machine(spec)
    }
}

/// The machine around the container, and its life.
fn with_machine(spec: &MachineSpec) -> api::CreateMachine {
    api::CreateMachine {
        cpus: Some(api_cpus(spec)),
        memory_mib: Some(spec.memory_mib),
        disk_bytes: Some(spec.disk_bytes),
        ports: spec.ports.iter().map(api_port).collect(),
        expose: spec.expose.iter().map(api_exposed_port).collect(),
        publish_all: spec.publish_exposed,
        volumes: api_volumes(spec),
        image_volumes: unless_default(spec.image_volumes, ImageVolumes::default()).map(api_image_volumes),
        network: unless_default(api_network(spec), api_network(&MachineSpec::new(""))),
        restart: unless_default(spec.restart, RestartPolicy::No).map(api_restart),
        log: unless_default(api_log(&spec.log), api_log(&LogConfig::default())),
        security: unless_default(api_security(&spec.container), api::Security::default()),
        resources: unless_default(api_resources(spec), api::Resources::default()),
        time_zone: spec.container.time_zone.clone(),
        remove: spec.remove,
        remove_image: spec.remove_image,
        pull: Some(api_pull_policy(spec.pull)),
        registry: unless_default(api_registry(&spec.registry), api::Registry::default()),
        driver: Some(spec.driver.clone()),
        accelerator: Some(api_accelerator(&spec.accelerator.to_string())),
        cold: spec.cold,
        stop_signal: spec.stop_signal.map(signal_text),
        stop_timeout_seconds: Some(spec.stop_timeout),
        start_timeout_seconds: Some(spec.start_timeout),
        timeout_seconds: Some(spec.timeout),
        ..api::CreateMachine::default()
    }
}

fn unless_default<T: PartialEq>(value: T, default: T) -> Option<T> {
    (value != default).then_some(value)
}

/// A signal's name, or the number of one that has none.
fn signal_text(number: i32) -> String {
    let name = signal::name(number);
    if signal::parse(&name).is_ok() { name } else { number.to_string() }
}

fn api_registry(registry: &RegistryAccess) -> api::Registry {
    api::Registry {
        insecure: registry.insecure_registries.clone(),
        tls_verify: registry.skip_tls_verification.then_some(false),
        auth: None,
        auth_file: registry.auth_file.as_ref().map(|file| file.to_string_lossy().into_owned()),
    }
}
