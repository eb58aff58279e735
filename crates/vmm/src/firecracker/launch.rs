//! Starts Firecracker, with a kernel or with a saved state.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::api::{
    Api, ApiError, Balloon, BootSource, CacheType, Drive, HugePages, LoadHugePages, LoadSnapshot,
    MachineConfig, MemoryBackend, NetworkInterface, NetworkOverride, Vsock,
};
use super::instance::FirecrackerInstance;
use super::jail::{Jail, find_jailer};
use super::layout::{Access, Layout, prepare_error};
use super::process::Process;
use super::version::Feature;
use super::{Firecracker, GUEST_CID, NAME, names};
use crate::{Accelerator, DiskFormat, LaunchError, LaunchSpec, Network, RestoreError, SavedMachine, program};

/// The first bytes of an ELF file.
const ELF: [u8; 4] = *b"\x7fELF";

/// Boots a machine.
pub(super) async fn launch(
    driver: &Firecracker,
    spec: &LaunchSpec,
) -> Result<FirecrackerInstance, LaunchError> {
    let mut prepared = PreparedLaunch::prepare(driver, spec)?;
    prepared.layout.provide(names::KERNEL, &spec.kernel, Access::ReadOnce)?;
    if has_initramfs(spec) {
        prepared.layout.provide(names::INITRAMFS, &spec.initramfs, Access::ReadOnce)?;
    }
    let (mut process, api) = prepared.start(spec).await?;
    let failed = match configure(&api, spec).await {
        Ok(()) => match api.start().await {
            Ok(()) => return Ok(FirecrackerInstance::new(process, api, false)),
            Err(error) => LaunchError::Guest { how: process.launch_error(error).await.to_string() },
        },
        Err(error) => process.launch_error(error).await,
    };
    process.kill().await;
    Err(failed)
}

/// Starts a machine from a saved state, and leaves it paused. No setting is made before the load: the state
/// contains all of them.
pub(super) async fn restore(
    driver: &Firecracker,
    spec: &LaunchSpec,
    saved: &SavedMachine,
) -> Result<FirecrackerInstance, RestoreError> {
    let mut prepared = PreparedLaunch::prepare(driver, spec)?;
    let open = |source| RestoreError::Open { path: saved.state.clone(), source };
    fs::File::open(&saved.state).map_err(open)?;
    prepared.layout.provide(names::STATE, &saved.state, Access::Read)?;
    let memory = match &saved.pager {
        Some(pager) => {
            prepared.layout.provide(names::PAGER, pager, Access::Connect)?;
            MemoryBackend::Uffd(names::PAGER.to_owned())
        }
        None => {
            check_memory_size(&saved.memory, spec)?;
            prepared.layout.provide(names::MEMORY, &saved.memory, Access::Read)?;
            MemoryBackend::File(names::MEMORY.to_owned())
        }
    };
    let (mut process, api) = prepared.start(spec).await?;
    match load(&api, spec, memory, driver.tracks_writes).await {
        Ok(()) => Ok(FirecrackerInstance::new(process, api, driver.tracks_writes)),
        Err(error) => {
            let error = restore_error(&mut process, error).await;
            process.kill().await;
            Err(error)
        }
    }
}

/// What is prepared before the process starts.
struct PreparedLaunch {
    program: PathBuf,
    directory: PathBuf,
    layout: Layout,
}

impl PreparedLaunch {
    fn prepare(driver: &Firecracker, spec: &LaunchSpec) -> Result<Self, LaunchError> {
        let directory = validate_spec(spec)?.to_owned();
        let missing = || LaunchError::NotInstalled { program: driver.program.display().to_string() };
        let program =
            program::find_program(&driver.program).filter(|path| path.is_file()).ok_or_else(missing)?;
        let mut layout = match jailer(driver, &program)? {
            Some(jailer) => Layout::jailed(Jail::create(spec, &directory, &program, jailer)?)?,
            None => Layout::open(&directory)?,
        };
        for (position, disk) in spec.disks.iter().enumerate() {
            let access = if disk.read_only { Access::Read } else { Access::Own };
            layout.provide(&names::drive_file(position), &disk.path, access)?;
        }
        Ok(Self { program, directory, layout })
    }

    /// Starts the process and waits until its API answers.
    async fn start(self, spec: &LaunchSpec) -> Result<(Process, Api), LaunchError> {
        let mut process = Process::start(&self.program, spec, &self.directory, self.layout)?;
        match process.wait_for_api().await {
            Ok(api) => Ok((process, api)),
            Err(error) => {
                process.kill().await;
                Err(error)
            }
        }
    }
}

/// The jailer, if the machine runs in a jail.
fn jailer(driver: &Firecracker, program: &Path) -> Result<Option<PathBuf>, LaunchError> {
    if !driver.is_jailed() {
        return Ok(None);
    }
    let jailer = driver.jailer.clone().or_else(|| find_jailer(program));
    jailer.map(Some).ok_or_else(|| LaunchError::NoJailer { program: program.display().to_string() })
}

/// Refuses a spec that Firecracker does not support, and gives the machine's directory.
fn validate_spec(spec: &LaunchSpec) -> Result<&Path, LaunchError> {
    let unsupported =
        |operation: &str| Err(LaunchError::Unsupported { driver: NAME, operation: operation.to_owned() });
    if spec.accelerator != Accelerator::Kvm {
        return unsupported("run a guest without KVM");
    }
    if matches!(spec.network, Some(Network::User(_) | Network::Unplugged { .. })) {
        return unsupported("provide a user-mode network: a TAP device is needed");
    }
    if spec.disks.iter().any(|disk| disk.format != DiskFormat::Raw) {
        return unsupported("use a disk in the qcow2 format");
    }
    let absolute = |path: &&Path| path.is_absolute();
    let directory = spec.directory().or_else(|| spec.console.parent().filter(absolute));
    directory.map_or_else(|| unsupported("run a machine without a directory of its own"), Ok)
}

fn has_initramfs(spec: &LaunchSpec) -> bool {
    !spec.initramfs.as_os_str().is_empty()
}

async fn configure(api: &Api, spec: &LaunchSpec) -> Result<(), ApiError> {
    if is_compressed(&spec.kernel) {
        api.require(Feature::CompressedKernel)?;
    }
    api.set_machine(&MachineConfig {
        vcpu_count: spec.cpus,
        mem_size_mib: spec.memory_mib,
        smt: false,
        track_dirty_pages: false,
        huge_pages: HugePages::None,
    })
    .await?;
    api.set_boot_source(&BootSource {
        kernel_image_path: names::KERNEL.to_owned(),
        initrd_path: has_initramfs(spec).then(|| names::INITRAMFS.to_owned()),
        boot_args: Some(spec.command_line.clone()),
    })
    .await?;
    attach_devices(api, spec).await
}

/// Adds the devices. Their order is part of a saved state.
async fn attach_devices(api: &Api, spec: &LaunchSpec) -> Result<(), ApiError> {
    for (position, disk) in spec.disks.iter().enumerate() {
        api.set_drive(&Drive {
            drive_id: names::drive(position),
            path_on_host: names::drive_file(position),
            // A root device would be first, regardless of its position.
            is_root_device: false,
            is_read_only: disk.read_only,
            cache_type: if disk.durable { CacheType::Writeback } else { CacheType::Unsafe },
            rate_limiter: None,
        })
        .await?;
    }
    if let Some(Network::Tap(tap)) = &spec.network {
        api.set_network(&NetworkInterface {
            iface_id: names::NIC.to_owned(),
            host_dev_name: tap.name.clone(),
            guest_mac: Some(tap.mac.clone()),
            mtu: None,
        })
        .await?;
    }
    api.set_vsock(&Vsock { guest_cid: GUEST_CID, uds_path: names::LINK.to_owned() }).await?;
    api.set_entropy(None).await?;
    // An empty balloon, which can be inflated later to take memory back from the guest.
    api.set_balloon(&Balloon { amount_mib: 0, deflate_on_oom: true, ..Balloon::default() }).await
}

/// A file that cannot be read counts as uncompressed: Firecracker reports the error.
fn is_compressed(kernel: &Path) -> bool {
    let mut magic = [0; ELF.len()];
    fs::File::open(kernel).and_then(|mut file| file.read_exact(&mut magic)).is_ok_and(|()| magic != ELF)
}

async fn load(
    api: &Api,
    spec: &LaunchSpec,
    memory: MemoryBackend,
    tracks_writes: bool,
) -> Result<(), ApiError> {
    api.load_snapshot(&LoadSnapshot {
        snapshot_path: names::STATE.to_owned(),
        memory,
        track_dirty_pages: tracks_writes,
        resume_vm: false,
        network_overrides: network_overrides(api, spec),
        vsock_override: None,
        clock_realtime: false,
        huge_pages: LoadHugePages::Snapshot,
    })
    .await?;
    // The guest knows the former sizes of its disks; these may differ.
    for position in 0..spec.disks.len() {
        api.replace_drive(&names::drive(position), &names::drive_file(position)).await?;
    }
    Ok(())
}

/// Versions without overrides open the TAP device that the state names: this machine's device has the same
/// name in its own network namespace.
fn network_overrides(api: &Api, spec: &LaunchSpec) -> Vec<NetworkOverride> {
    match &spec.network {
        Some(Network::Tap(tap)) if api.require(Feature::NetworkOverrides).is_ok() => {
            vec![NetworkOverride { iface_id: names::NIC.to_owned(), host_dev_name: tap.name.clone() }]
        }
        _ => Vec::new(),
    }
}

/// Firecracker detects a memory file that is too small, but not one that is too large.
fn check_memory_size(memory: &Path, spec: &LaunchSpec) -> Result<(), RestoreError> {
    let open = |source| RestoreError::Launch(prepare_error("open", memory, source));
    let found = fs::metadata(memory).map_err(open)?.len();
    let expected = u64::from(spec.memory_mib) << 20;
    if found == expected {
        return Ok(());
    }
    Err(RestoreError::MemorySize { path: memory.to_owned(), expected, found })
}

/// The error of a failed load. Firecracker exits after one, usually with a message.
async fn restore_error(process: &mut Process, error: ApiError) -> RestoreError {
    match error {
        ApiError::Refused { message, .. } => RestoreError::Ended { how: message },
        ApiError::Disconnected { .. } | ApiError::Connect { .. } => match process.launch_error(error).await {
            LaunchError::Ended { .. } => process.wait().await.during_restore(),
            other => other.into(),
        },
        other => RestoreError::Operation(other.into()),
    }
}
