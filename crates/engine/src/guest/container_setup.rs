//! How the container is set up in the guest: from the spec, and from what the image declares.

use std::collections::BTreeMap;

use mimeo_agent_protocol::message::{ContainerSetup, Tmpfs};
use mimeo_image::ImageConfig;

use crate::machine::{ImageVolumes, MachineSpec, image_volumes};
use crate::stage::StageError;
use crate::time_zone;

/// The period of the guest's CPU quota, in microseconds, is a tenth of a second; a CPU has this many billionths.
const NANOS_PER_QUOTA_MICRO: u64 = 10_000;
/// Kernel settings of every container. Every group may open ICMP sockets, so that `ping` works without CAP_NET_RAW.
const DEFAULT_SYSCTLS: [(&str, &str); 1] = [("net.ipv4.ping_group_range", "0 2147483647")];

/// The container's set-up.
pub(crate) fn container_setup(spec: &MachineSpec, image: &ImageConfig) -> Result<ContainerSetup, StageError> {
    let options = &spec.container;
    Ok(ContainerSetup {
        cpu_quota_micros: options.nano_cpus.map(|nanos| nanos / NANOS_PER_QUOTA_MICRO),
        pids_limit: options.pids_limit,
        sysctls: options.sysctls.clone(),
        default_sysctls: default_sysctls(),
        read_only: options.read_only,
        tmpfs: options.tmpfs.iter().cloned().chain(image_tmpfs(spec, image)).collect(),
        shm_bytes: options.shm_bytes,
        local_time: options.time_zone.as_deref().map(local_time).transpose()?,
        whole_guest: options.privileged,
        no_hosts: spec.no_hosts,
    })
}

/// Temporary filesystems in place of the volumes that the image declares, if that is requested.
fn image_tmpfs(spec: &MachineSpec, image: &ImageConfig) -> Vec<Tmpfs> {
    if spec.image_volumes != ImageVolumes::Tmpfs {
        return Vec::new();
    }
    let tmpfs = |target| Tmpfs { target, copy_up: true, ..Tmpfs::default() };
    image_volumes(spec, &image.volumes).map(tmpfs).collect()
}

fn default_sysctls() -> BTreeMap<String, String> {
    DEFAULT_SYSCTLS.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// A time zone's data as hexadecimal digits.
fn local_time(name: &str) -> Result<String, StageError> {
    let data = time_zone::data(name)?;
    Ok(data.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_a_cpu_is_a_quota() {
        let mut spec = MachineSpec::new("x");
        spec.container.nano_cpus = Some(1_500_000_000);
        let setup = container_setup(&spec, &ImageConfig::default()).expect("a setup");
        assert_eq!(setup.cpu_quota_micros, Some(150_000));
    }
}
