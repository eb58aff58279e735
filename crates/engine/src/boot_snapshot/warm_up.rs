//! The warm-up run of a boot snapshot's stencil: the guest is configured, runs a container as for its first work, and
//! is reset.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mimeo_agent_protocol::link::Link;
use mimeo_agent_protocol::message::{Configure, Identity, Interface, Process, Reply, Request};
use mimeo_image::{ImageConfig, ImportOptions, Quiet, Store, blank};
use mimeo_net::MacAddress;
use mimeo_vmm::{Disk, DiskIdentification, LaunchSpec, Network};
use tokio::net::UnixStream;

use super::PLACEHOLDER_BYTES;
use crate::agent;
use crate::disk_layers::layer_file_name;
use crate::guest::{self, container_setup, disk, entropy, interface, unix_nanos};
use crate::identity;
use crate::io_error::IoContext;
use crate::launch_spec::user_network;
use crate::machine::{ContainerOptions, IMAGE_SERIAL, MachineSpec, NetworkRecord, WRITABLE_SERIAL};
use crate::snapshot::Snapshot;
use crate::stage::StageError;
use crate::stencil::WarmUp;

/// Size of the filesystem on the warm-up run's writable disk. Only the warm-up run reads it.
const DISK_BYTES: u64 = 1 << 30;
/// The container's program is the agent, which takes this name for the request to run as such.
const PROGRAM: &str = "mimeo-warm-up";
/// Where the program is. It is found through `PATH`.
const PROGRAM_PATH: &str = "usr/bin/mimeo-warm-up";

/// A guest that exists only for its warm-up runs and is killed after them.
#[derive(Debug)]
pub(super) struct BootSnapshotWarmUp<'a> {
    name: String,
    spec: &'a LaunchSpec,
    network: Option<NetworkRecord>,
}

impl<'a> BootSnapshotWarmUp<'a> {
    pub(super) fn new(snapshot: &Snapshot, spec: &'a LaunchSpec) -> Result<Self, StageError> {
        let network = spec.network.as_ref().map(|_| NetworkRecord::placeholder()).transpose()?;
        Ok(Self { name: snapshot.manifest.id.short().to_owned(), spec, network })
    }

    fn configure(&self) -> Result<Configure, StageError> {
        Ok(Configure {
            machine: "0".repeat(64),
            hostname: "warm-up".to_owned(),
            unix_nanos: unix_nanos(),
            interface: self.network.as_ref().map(interface_of_another_machine),
            dns: self.network.iter().map(|network| network.subnet.dns().to_string()).collect(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            hosts: Default::default(),
            image: disk(IMAGE_SERIAL, DiskIdentification::Serial),
            writable: Some(disk(WRITABLE_SERIAL, DiskIdentification::Serial)),
            vm_generation: Some(identity::new_vm_generation()),
            entropy: Some(entropy()?),
            env: Default::default(),
            setup: container_setup(&MachineSpec::new(String::new()), &ImageConfig::default())?,
            system: None,
        })
    }
}

impl WarmUp for BootSnapshotWarmUp<'_> {
    /// Makes disks of the size of the placeholder disks that the guest booted with.
    fn build_spec(&self, dir: &Path) -> Result<LaunchSpec, StageError> {
        let disk = |disk: &Disk| {
            let path = match disk.serial.as_str() {
                IMAGE_SERIAL => create_image(dir)?,
                WRITABLE_SERIAL => create_blank(dir)?,
                volume => create_blank(&dir.join(volume))?,
            };
            let opened = fs::File::options().write(true).open(&path);
            opened.and_then(|file| file.set_len(PLACEHOLDER_BYTES)).at("resize", &path)?;
            Ok::<_, StageError>(Disk { path, ..disk.clone() })
        };
        Ok(LaunchSpec {
            name: self.name.clone(),
            disks: self.spec.disks.iter().map(disk).collect::<Result<_, _>>()?,
            network: self.network.as_ref().map(user_network).map(Network::User),
            console: dir.join("console.log"),
            ..self.spec.clone()
        })
    }

    async fn run(&self, channel: UnixStream) -> Result<(), StageError> {
        let session = identity::session(&identity::new_vm_generation());
        let link = guest::connect(channel, session).await?;
        let configure = self.configure()?;
        identity::apply(&link, identity_before(&configure)?).await?;
        link.call(&Request::Configure(Box::new(configure))).await?.done()?;
        run_program(&link).await?;
        Ok(link.call(&Request::Reset).await?.done()?)
    }
}

/// The identity that a machine's guest is given before it is configured.
fn identity_before(configure: &Configure) -> Result<Identity, StageError> {
    Ok(Identity {
        vm_generation: identity::new_vm_generation(),
        machine: configure.machine.clone(),
        hostname: configure.hostname.clone(),
        unix_nanos: configure.unix_nanos,
        entropy: entropy()?,
        interface: configure.interface.clone(),
        dns: configure.dns.clone(),
        dns_search: Vec::new(),
        dns_options: Vec::new(),
        hosts: Default::default(),
        env: Default::default(),
        signal: None,
        thaw: false,
        warm_up: true,
    })
}

/// The interface with another MAC address than the NIC has, as a machine's.
fn interface_of_another_machine(network: &NetworkRecord) -> Interface {
    Interface { mac: MacAddress::local([u8::MAX; 5]).to_string(), ..interface(network) }
}

/// Makes an empty disk in the directory. Relative to the stencil's directory its path is that of the machines' disks: QEMU
/// opens the files of disks that are written again when it saves its devices.
fn create_blank(dir: &Path) -> Result<PathBuf, StageError> {
    fs::create_dir_all(dir).at("create", dir)?;
    let path = dir.join(layer_file_name(0));
    blank::create(&path, DISK_BYTES, *uuid::Uuid::new_v4().as_bytes())?;
    Ok(path)
}

/// Makes the image that the warm-up run's container has: its program, and the files that each start of a container
/// reads. The kernel reads them from the disk, as those of a real image.
fn create_image(dir: &Path) -> Result<PathBuf, StageError> {
    let scratch = tempfile::tempdir_in(dir).at("create a directory in", dir)?;
    let store = Store::open(scratch.path())?;
    let archive = archive().at("write an archive for", dir)?;
    let imported = store.import(&*archive, Path::new("warm-up"), &ImportOptions::default(), Arc::new(Quiet));
    let path = dir.join(IMAGE_SERIAL);
    fs::rename(&imported?.rootfs, &path).at("rename", &path)?;
    // The store protects its files from writes.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).at("set the mode of", &path)?;
    Ok(path)
}

fn archive() -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let files = [
        ("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n".as_slice()),
        ("etc/group", 0o644, b"root:x:0:\n"),
        (PROGRAM_PATH, 0o755, agent::BYTES),
    ];
    for (path, mode, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_mtime(0);
        archive.append_data(&mut header, path, content)?;
    }
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    archive.append_link(&mut link, "bin", "usr/bin")?;
    archive.into_inner()
}

async fn run_program(link: &Link) -> Result<(), StageError> {
    let process = Process {
        args: vec![PROGRAM.to_owned()],
        cwd: "/".to_owned(),
        privileges: Some(ContainerOptions::default().privileges()),
        ..Process::default()
    };
    let mut stream = link.open(&Request::Start(process))?;
    loop {
        match stream.reply().await? {
            Reply::Started { .. } => {}
            Reply::Exited { .. } => return Ok(()),
            other => return Err(other.unexpected().into()),
        }
    }
}
