//! A request that creates a machine becomes the engine's spec.

use std::path::PathBuf;

use mimeo_engine::machine::{MachineSpec, RegistryAccess, RestartPolicy};
use mimeo_engine::{signal, time_zone};
use mimeo_image::{Credentials, Source};
use mimeo_manager_api as api;

use super::check::{absolute_path, command, hostname, require, variables};
use super::choice::{image_volumes, log_config, pull_policy, restart_policy, set_accelerator};
use super::error::{ConvertError, Converted, InField};
use super::{health, network, resources, security, volumes};

/// Converts a request for a machine of an image. The spec has no credentials: see [`registry_credentials`].
///
/// # Errors
/// If a value cannot be used.
pub fn machine_spec(wire: &api::CreateMachine) -> Result<MachineSpec, ConvertError> {
    let mut spec = MachineSpec::new(image(wire)?);
    apply_process(wire, &mut spec)?;
    apply_environment(wire, &mut spec)?;
    spec.name = wire.name.as_deref().map(str::parse).transpose().in_field("name")?;
    spec.labels.clone_from(&wire.labels);
    spec.annotations.clone_from(&wire.annotations);
    spec.memory_mib = wire.memory_mib.unwrap_or(spec.memory_mib);
    spec.disk_bytes = wire.disk_bytes.unwrap_or(spec.disk_bytes);
    resources::apply_cpus(wire, &mut spec)?;
    spec.ports = network::ports(&wire.ports)?;
    spec.expose = network::expose(&wire.expose)?;
    spec.publish_exposed = wire.publish_all;
    volumes::apply(&wire.volumes, &mut spec)?;
    spec.image_volumes = wire.image_volumes.map(image_volumes).unwrap_or_default();
    apply_groups(wire, &mut spec)?;
    apply_life(wire, &mut spec)?;
    apply_start(wire, &mut spec)?;
    Ok(spec)
}

/// The login at the registry, for one pull. It is part of no spec, since specs are stored.
///
/// # Errors
/// If the user has no name.
pub fn registry_credentials(wire: &api::CreateMachine) -> Result<Option<Credentials>, ConvertError> {
    let Some(auth) = wire.registry.as_ref().and_then(|registry| registry.auth.as_ref()) else {
        return Ok(None);
    };
    let is_user = !auth.username.is_empty() && !auth.username.contains(':');
    require(is_user, "registry.auth.username", "it is empty or contains a colon")?;
    Ok(Some(Credentials { user: auth.username.clone(), password: auth.password.clone() }))
}

fn image(wire: &api::CreateMachine) -> Converted<&str> {
    require(wire.snapshot.is_none() || wire.image.is_none(), "snapshot", "it excludes image")?;
    require(wire.snapshot.is_none(), "snapshot", "a clone has its snapshot's settings")?;
    let image = wire.image.as_deref().ok_or_else(|| ConvertError::new("image", "it is missing"))?;
    image.parse::<Source>().in_field("image")?;
    Ok(image)
}

fn apply_process(wire: &api::CreateMachine, spec: &mut MachineSpec) -> Converted<()> {
    command("command", &wire.command)?;
    command("entrypoint", wire.entrypoint.as_deref().unwrap_or_default())?;
    spec.command.clone_from(&wire.command);
    spec.entrypoint.clone_from(&wire.entrypoint);
    wire.workdir.as_deref().map_or(Ok(()), |path| absolute_path("workdir", path))?;
    spec.workdir.clone_from(&wire.workdir);
    if let Some(user) = &wire.user {
        let is_user = !user.contains(|c: char| c.is_control());
        require(is_user, "user", format!("{user:?} is not user[:group]"))?;
    }
    spec.user.clone_from(&wire.user);
    wire.hostname.as_deref().map_or(Ok(()), hostname)?;
    spec.hostname.clone_from(&wire.hostname);
    (spec.tty, spec.interactive, spec.init) = (wire.tty, wire.interactive, wire.init);
    Ok(())
}

fn apply_environment(wire: &api::CreateMachine, spec: &mut MachineSpec) -> Converted<()> {
    variables("env", &wire.env)?;
    variables("env_merge", &wire.env_merge)?;
    spec.env.clone_from(&wire.env);
    spec.env_merge.clone_from(&wire.env_merge);
    spec.unset_env.clone_from(&wire.unset_env);
    spec.unset_all_env = wire.unset_all_env;
    Ok(())
}

fn apply_groups(wire: &api::CreateMachine, spec: &mut MachineSpec) -> Converted<()> {
    if let Some(network) = &wire.network {
        network::apply(network, spec)?;
    }
    if let Some(security) = &wire.security {
        security::apply(security, spec)?;
    }
    if let Some(resources) = &wire.resources {
        resources::apply(resources, spec)?;
    }
    if let Some(log) = &wire.log {
        spec.log = log_config(log)?;
    }
    if let Some(name) = &wire.time_zone {
        time_zone::data(name).in_field("time_zone")?;
    }
    spec.container.time_zone.clone_from(&wire.time_zone);
    health::apply(wire, spec)
}

/// When the machine ends, and what is done then.
fn apply_life(wire: &api::CreateMachine, spec: &mut MachineSpec) -> Converted<()> {
    if let Some(restart) = &wire.restart {
        spec.restart = restart_policy(restart)?;
    }
    let restarts = spec.restart != RestartPolicy::No;
    require(!(wire.remove && restarts), "restart.policy", "a machine with remove is not started again")?;
    require(wire.remove || !wire.remove_image, "remove_image", "it needs remove")?;
    (spec.remove, spec.remove_image) = (wire.remove, wire.remove_image);
    spec.stop_signal = wire.stop_signal.as_deref().map(signal::parse).transpose().in_field("stop_signal")?;
    spec.stop_timeout = wire.stop_timeout_seconds.unwrap_or(spec.stop_timeout);
    spec.timeout = wire.timeout_seconds.unwrap_or(spec.timeout);
    Ok(())
}

/// How the machine is started.
fn apply_start(wire: &api::CreateMachine, spec: &mut MachineSpec) -> Converted<()> {
    spec.pull = wire.pull.map_or(spec.pull, pull_policy);
    spec.registry = wire.registry.as_ref().map(registry_access).transpose()?.unwrap_or_default();
    spec.driver = wire.driver.clone().unwrap_or_else(|| std::mem::take(&mut spec.driver));
    set_accelerator(spec, wire.accelerator)?;
    spec.start_timeout = wire.start_timeout_seconds.unwrap_or(spec.start_timeout);
    spec.cold = wire.cold;
    Ok(())
}

fn registry_access(registry: &api::Registry) -> Converted<RegistryAccess> {
    let auth_file = registry.auth_file.as_ref().map(PathBuf::from);
    let is_path = auth_file.as_ref().is_none_or(|file| file.is_absolute());
    require(is_path, "registry.auth_file", "it is not an absolute path")?;
    Ok(RegistryAccess {
        insecure_registries: registry.insecure.clone(),
        skip_tls_verification: !registry.tls_verify.unwrap_or(true),
        auth_file,
    })
}
