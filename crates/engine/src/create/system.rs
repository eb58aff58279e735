//! Stage 2 of a machine with a whole system: finds its base, and makes its disk and its seed.

use std::path::{Path, PathBuf};

use mimeo_agent_protocol::message::Process;
use mimeo_base::{BaseName, Manifest, Store};
use mimeo_image::ImageConfig;
use mimeo_seed::{Addressing, Interface, Network, Seed};

use super::imaged::Imaged;
use super::planned::Planned;
use crate::Engine;
use crate::disk_layers::{add_layer_file, existing_layers, link_disk};
use crate::guest;
use crate::io_error::IoContext;
use crate::machine::{Claim, NetworkRecord, Record, SystemRecord, SystemSpec};
use crate::stage::StageError;

/// File name of the seed, in the machine's directory.
const SEED: &str = "seed";
/// systemd's signal to its init to power off: SIGRTMIN+4.
const POWER_OFF: i32 = 38;

impl Planned {
    /// Finds the base and makes the disk of a new machine, and the seed, which has the machine's address, for each start.
    pub(super) fn system(mut self, engine: &Engine, spec: &SystemSpec) -> Result<Imaged, StageError> {
        let Self { claim, stopwatch, .. } = &mut self;
        if claim.record.system.is_none() {
            install(engine, claim, spec)?;
        }
        let record = &mut claim.record;
        let init = record.system.as_ref().map(|system| system.init.clone());
        record.process = Process { args: init.into_iter().collect(), ..Process::default() };
        record.spec.stop_signal.get_or_insert(POWER_OFF);
        let rootfs = write_seed(&claim.dir, &claim.record, spec)?;
        stopwatch.lap("image");
        Ok(Imaged { planned: self, rootfs, config: ImageConfig::default() })
    }
}

/// Writes the machine's seed, which its guest gets in place of an image; returns its path.
pub(crate) fn write_seed(dir: &Path, record: &Record, spec: &SystemSpec) -> Result<PathBuf, StageError> {
    let path = dir.join(SEED);
    let disk = seed(record, spec).disk()?;
    crate::durable::write(&path, &disk).at("write", &path)?;
    Ok(path)
}

/// Makes the machine's disk over that of its base, and records where the system is. The base is locked meanwhile: it is removed
/// before that, or has a user afterwards.
fn install(engine: &Engine, claim: &mut Claim, spec: &SystemSpec) -> Result<(), StageError> {
    let store = engine.bases()?;
    let name: BaseName = spec.base.parse()?;
    let _lock = store.lock()?;
    let base = store.read(&name)?;
    let record = system_record(&base)?;
    make_disk(&store, &base, claim)?;
    claim.record.system = Some(record);
    Ok(claim.store()?)
}

fn system_record(base: &Manifest) -> Result<SystemRecord, StageError> {
    let unusable = |why: &str| StageError::BaseUnusable { base: base.name.to_string(), why: why.to_owned() };
    let root = base.root.as_ref().ok_or_else(|| unusable("it has no root filesystem"))?;
    let init = base.system.as_ref().and_then(|system| system.init.as_ref());
    let init = init.ok_or_else(|| unusable("no init was found in it"))?;
    Ok(SystemRecord {
        base: base.name.to_string(),
        digest: base.digest.clone(),
        partition: root.partition,
        filesystem: root.filesystem.clone(),
        init: init.path.clone(),
    })
}

/// The base's disk, which never changes, and a layer over it. The machine's disk is at least as large as the base's.
fn make_disk(store: &Store, base: &Manifest, claim: &mut Claim) -> Result<(), StageError> {
    let bytes = claim.record.spec.disk_bytes.max(base.virtual_bytes);
    if existing_layers(&claim.dir) == 0 {
        link_disk(&store.disk(&base.name), &claim.dir)?;
        add_layer_file(&claim.dir, 1, bytes)?;
    }
    claim.record.spec.disk_bytes = bytes;
    claim.record.disk_layers = existing_layers(&claim.dir);
    Ok(())
}

fn seed(record: &Record, spec: &SystemSpec) -> Seed {
    Seed {
        instance_id: record.name.to_string(),
        hostname: guest::hostname(record),
        network: record
            .network
            .as_ref()
            .map(|network| Network { interfaces: vec![interface(record, network)] }),
        ssh_keys: spec.ssh_keys.clone(),
        user_data: spec.user_data.clone().map(String::into_bytes),
        vendor_data: None,
    }
}

fn interface(record: &Record, network: &NetworkRecord) -> Interface {
    let own = guest::interface(network);
    let ipv4 = Addressing::Static {
        address: own.address.ip,
        prefix: own.address.prefix,
        gateway: Some(own.gateway),
    };
    let ipv6 = own.ipv6.map(|ipv6| Addressing::Static {
        address: ipv6.ip,
        prefix: ipv6.prefix,
        gateway: Some(ipv6.gateway),
    });
    Interface {
        mac: network.mac.octets(),
        ipv4: Some(ipv4),
        ipv6,
        dns: guest::dns(record).iter().filter_map(|address| address.parse().ok()).collect(),
        search: record.spec.dns_search.clone(),
        mtu: u16::try_from(own.mtu).ok(),
    }
}
