//! CPUs, limits, and settings of the guest's kernel.

use mimeo_agent_protocol::message::{Resource, ResourceLimit};
use mimeo_engine::machine::MachineSpec;
use mimeo_manager_api as api;

use super::check::require;
use super::error::{ConvertError, Converted};

const NANOS: f64 = 1e9;
/// The smallest number of CPUs, as podman's.
const MIN_CPUS: f64 = 0.01;
/// The largest number of CPUs for which the conversion is exact. The engine refuses more than the host can run.
const MAX_CPUS: f64 = 1e5;
const MIB: u64 = 1024 * 1024;

/// Sets the vCPUs of a spec, and the container's share of them.
pub(super) fn apply_cpus(wire: &api::CreateMachine, spec: &mut MachineSpec) -> Converted<()> {
    let given = wire.resources.as_ref().and_then(|resources| resources.vcpus);
    let Some(cpus) = wire.cpus else {
        spec.cpus = given.unwrap_or(spec.cpus);
        return require(given != Some(0), "resources.vcpus", "a machine has at least one");
    };
    let is_number = (MIN_CPUS..=MAX_CPUS).contains(&cpus);
    require(is_number, "cpus", format!("{cpus} is not a number of CPUs of at least {MIN_CPUS}"))?;
    // Both are in range: checked above.
    let (needed, nanos) = (cpus.ceil() as u32, (cpus * NANOS).round() as u64);
    spec.cpus = given.unwrap_or(needed);
    require(spec.cpus >= needed, "resources.vcpus", format!("fewer than the {cpus} CPUs of the container"))?;
    let is_share = nanos < u64::from(spec.cpus) * NANOS as u64;
    spec.container.nano_cpus = is_share.then_some(nanos);
    Ok(())
}

/// Sets the limits of a spec. Its memory is set already.
pub(super) fn apply(resources: &api::Resources, spec: &mut MachineSpec) -> Converted<()> {
    if let Some(bytes) = resources.memory_swap_bytes {
        check_memory_swap(bytes, spec.memory_mib)?;
    }
    require(resources.shm_bytes != Some(0), "resources.shm_bytes", "it must be greater than 0")?;
    for (name, value) in &resources.sysctls {
        check_sysctl(name, value)?;
    }
    let score = resources.oom_score_adj;
    let is_score = score.is_none_or(|score| (-1000..=1000).contains(&score));
    require(is_score, "resources.oom_score_adj", "it is not between -1000 and 1000")?;
    let container = &mut spec.container;
    container.pids_limit = resources.pids_limit.filter(|limit| *limit > 0);
    container.memory_swap = resources.memory_swap_bytes;
    container.shm_bytes = resources.shm_bytes;
    container.ulimits = ulimits(&resources.ulimits)?;
    container.sysctls.clone_from(&resources.sysctls);
    container.oom_score_adj = score;
    Ok(())
}

fn check_memory_swap(bytes: i64, memory_mib: u32) -> Converted<()> {
    let memory = u64::from(memory_mib) * MIB;
    // The command line rounds the memory up to MiB, and not this sum.
    let is_memory = u64::try_from(bytes).is_ok_and(|bytes| bytes.div_ceil(MIB) * MIB == memory);
    let message = format!("the guest has no swap: give the memory's {memory} bytes, 0, or -1 for unlimited");
    require(is_memory || bytes == 0 || bytes == -1, "resources.memory_swap_bytes", message)
}

fn check_sysctl(name: &str, value: &str) -> Converted<()> {
    let is_part = |part: &str| !part.is_empty() && !part.contains(['/', '\0']);
    let is_name = name.split('.').all(is_part);
    require(is_name, "resources.sysctls", format!("{name:?} is not the name of a kernel setting"))?;
    require(!value.contains('\0'), format!("resources.sysctls.{name}"), "a value has no NUL character")
}

fn ulimits(limits: &[api::Ulimit]) -> Converted<Vec<ResourceLimit>> {
    let mut converted: Vec<ResourceLimit> = Vec::new();
    for (at, limit) in limits.iter().enumerate() {
        let field = format!("resources.ulimits[{at}]");
        let limit = ulimit(&field, limit)?;
        let is_new = converted.iter().all(|other| other.resource != limit.resource);
        require(is_new, format!("{field}.name"), format!("{} is limited already", limit.resource.name()))?;
        converted.push(limit);
    }
    Ok(converted)
}

fn ulimit(field: &str, limit: &api::Ulimit) -> Converted<ResourceLimit> {
    let resource = Resource::ALL.into_iter().find(|resource| resource.name() == limit.name);
    let resource = resource.ok_or_else(|| {
        let known = Resource::ALL.map(Resource::name).join(", ");
        ConvertError::new(format!("{field}.name"), format!("{:?} is not one of {known}", limit.name))
    })?;
    let value = |part: &str, value: i64| match u64::try_from(value) {
        Ok(value) => Ok(value),
        Err(_) if value == -1 => Ok(ResourceLimit::UNLIMITED),
        Err(_) => {
            Err(ConvertError::new(format!("{field}.{part}"), format!("{value} is no limit, and not -1")))
        }
    };
    let (soft, hard) = (value("soft", limit.soft)?, value("hard", limit.hard)?);
    require(soft <= hard, format!("{field}.soft"), "it is above the hard limit")?;
    Ok(ResourceLimit { resource, soft, hard })
}

/// The CPUs of a spec's container.
pub(super) fn api_cpus(spec: &MachineSpec) -> f64 {
    spec.container.nano_cpus.map_or(f64::from(spec.cpus), |nanos| nanos as f64 / NANOS)
}

/// The limits of a spec.
pub(super) fn api_resources(spec: &MachineSpec) -> api::Resources {
    let container = &spec.container;
    api::Resources {
        vcpus: Some(spec.cpus).filter(|vcpus| f64::from(*vcpus) != api_cpus(spec).ceil()),
        pids_limit: container.pids_limit,
        memory_swap_bytes: container.memory_swap,
        shm_bytes: container.shm_bytes,
        ulimits: container.ulimits.iter().map(api_ulimit).collect(),
        sysctls: container.sysctls.clone(),
        oom_score_adj: container.oom_score_adj,
    }
}

fn api_ulimit(limit: &ResourceLimit) -> api::Ulimit {
    // A limit above that is none.
    let value = |value: u64| i64::try_from(value).unwrap_or(-1);
    api::Ulimit { name: limit.resource.name().to_owned(), soft: value(limit.soft), hard: value(limit.hard) }
}
