//! The warm-up run of a boot snapshot's stencil: the guest is configured, runs a container as for its first work, and
//! is reset.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use mimeo_agent_protocol::link::Link;
use mimeo_agent_protocol::message::{Configure, ContainerSetup, Process, Reply, Request, channel};
use mimeo_image::blank;
use mimeo_vmm::{Disk, DiskIdentification, LaunchSpec, Network};
use tokio::net::UnixStream;

use super::PLACEHOLDER_BYTES;
use crate::disk_layers::layer_file_name;
use crate::guest::{self, disk, entropy, interface, unix_nanos};
use crate::identity;
use crate::io_error::IoContext;
use crate::launch_spec::user_network;
use crate::machine::{ContainerOptions, IMAGE_SERIAL, NetworkRecord, WRITABLE_SERIAL};
use crate::snapshot::Snapshot;
use crate::stage::StageError;
use crate::stencil::WarmUp;

/// Size of the filesystems on the warm-up run's disks. Only the warm-up run reads them.
const DISK_BYTES: u64 = 1 << 30;
/// File name of the container's only program.
const PROGRAM: &str = "mimeo-warm-up";

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
            interface: self.network.as_ref().map(interface),
            dns: self.network.iter().map(|network| network.subnet.dns().to_string()).collect(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            hosts: Default::default(),
            image: disk(IMAGE_SERIAL, DiskIdentification::Serial),
            writable: Some(disk(WRITABLE_SERIAL, DiskIdentification::Serial)),
            vm_generation: Some(identity::new_vm_generation()),
            entropy: Some(entropy()?),
            env: Default::default(),
            setup: ContainerSetup::default(),
        })
    }
}

impl WarmUp for BootSnapshotWarmUp<'_> {
    /// Makes disks with an empty filesystem, of the size of the placeholder disks that the guest booted with.
    fn build_spec(&self, dir: &Path) -> Result<LaunchSpec, StageError> {
        let disk = |disk: &Disk| {
            let path = placeholder_path(disk, dir);
            let parent = path.parent().unwrap_or(dir);
            std::fs::create_dir_all(parent).at("create", parent)?;
            blank::create(&path, DISK_BYTES, *uuid::Uuid::new_v4().as_bytes())?;
            let opened = std::fs::File::options().write(true).open(&path);
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
        link.call(&Request::Configure(Box::new(self.configure()?))).await?.done()?;
        copy_program(&link).await?;
        run_program(&link).await?;
        Ok(link.call(&Request::Reset).await?.done()?)
    }
}

/// The path of a disk of the stencil's. Relative to the directory it is that of the machines' disks: QEMU opens the files
/// of disks that are written again when it saves its devices.
fn placeholder_path(disk: &Disk, dir: &Path) -> PathBuf {
    match disk.serial.as_str() {
        IMAGE_SERIAL => dir.join(IMAGE_SERIAL),
        WRITABLE_SERIAL => dir.join(layer_file_name(0)),
        volume => dir.join(volume).join(layer_file_name(0)),
    }
}

/// Copies the program into the root directory of the guest's container.
async fn copy_program(link: &Link) -> Result<(), StageError> {
    let mut stream = link.open(&Request::WriteArchive { directory: "/".to_owned() })?;
    stream.sender.data(channel::STDIN, Bytes::from(archive())).await?;
    stream.sender.data(channel::STDIN, Bytes::new()).await?;
    Ok(stream.reply().await?.done()?)
}

fn archive() -> Vec<u8> {
    let program = elf();
    let mut header = tar::Header::new_ustar();
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let mut archive = tar::Builder::new(Vec::new());
    // This cannot fail: it writes to memory, and the name is short.
    archive.append_data(&mut header, PROGRAM, &*program).ok();
    archive.into_inner().unwrap_or_default()
}

async fn run_program(link: &Link) -> Result<(), StageError> {
    let args = vec![format!("/{PROGRAM}")];
    let process = Process {
        args,
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

/// A minimal program that prints an empty line and exits.
fn elf() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    #[rustfmt::skip]
    const CODE: &[u8] = &[
        0x6a, 0x0a,                         // push 10           newline
        0x48, 0x89, 0xe6,                   // mov rsi, rsp
        0xbf, 0x01, 0x00, 0x00, 0x00,       // mov edi, 1
        0xba, 0x01, 0x00, 0x00, 0x00,       // mov edx, 1
        0xb8, 0x01, 0x00, 0x00, 0x00,       // mov eax, 1        write
        0x0f, 0x05,                         // syscall
        0x31, 0xff,                         // xor edi, edi
        0xb8, 0xe7, 0x00, 0x00, 0x00,       // mov eax, 231      exit_group
        0x0f, 0x05,                         // syscall
    ];
    let length = HEADERS + CODE.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // An x86-64 executable, version 1; its entry point, and the offset of its only program header.
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    file.extend([BASE + HEADERS, 64, 0].iter().flat_map(|word: &u64| word.to_le_bytes()));
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    // PT_LOAD, readable and executable: the whole file.
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    file.extend([0, BASE, BASE, length, length, 4096].iter().flat_map(|word: &u64| word.to_le_bytes()));
    file.extend(CODE);
    file
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_minimal_program_prints_an_empty_line() {
        let dir = tempfile::tempdir().expect("made");
        let path = dir.path().join("program");
        std::fs::write(&path, super::elf()).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("set");
        let output = std::process::Command::new(&path).output().expect("run");
        assert!(output.status.success(), "{output:?}");
        assert_eq!(output.stdout, b"\n");
    }
}
