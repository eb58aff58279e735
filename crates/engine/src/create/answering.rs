//! Stage 5: the guest's agent answers.

use std::path::Path;
use std::time::Duration;

use mimeo_agent_protocol::link::{self, Link, LinkError};
use mimeo_agent_protocol::message::{Address, Address6, Configure, Disk, Interface, Reply, Request};
use mimeo_vmm::{DiskOrder, VmExit};
use tokio::time::timeout;

use super::launched::{IMAGE_SERIAL, Launched, WRITABLE_SERIAL};
use super::{Stage, StageError, StartError};
use crate::Engine;
use crate::cause::chain;
use crate::hang::{self, HangDump, SilentGuest};
use crate::identity;
use crate::machine::{NetworkRecord, Record};
use mimeo_net::Subnet;

/// The kernel's name of both disks' filesystem.
pub(crate) const FILESYSTEM: &str = "ext4";
/// The first session of a machine that was booted cold.
const FIRST_GENERATION: u32 = 1;
/// How long a machine whose link has gone may take to end.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Lines of the console that an error shows.
const CONSOLE_LINES: usize = 20;
/// Largest packet on the user-mode network: there is no wire to fit.
const MTU: u32 = 1500;

/// A machine whose agent answers.
#[derive(Debug)]
pub(super) struct Answering {
    pub(super) launched: Launched,
    pub(super) link: Link,
}

impl Launched {
    /// Waits until the agent answers. Undo: none of its own.
    pub(super) async fn answer(mut self, engine: &Engine) -> Result<Answering, StartError> {
        match self.connect().await {
            Ok(link) => {
                self.chosen.guest_answered(engine.home());
                self.imaged.planned.clock.lap("boot");
                Ok(Answering { launched: self, link })
            }
            Err(error) if self.chosen.is_trial() => {
                let why = self.chosen.guest_failed(engine.home(), chain(&error));
                Err(self.fail(engine, Stage::Boot, StageError::Kvm { why }).await)
            }
            Err(error) => Err(self.fail(engine, Stage::Boot, error).await),
        }
    }

    async fn connect(&mut self) -> Result<Link, StageError> {
        if let Some(link) = self.link.take() {
            return Ok(link);
        }
        let given = Duration::from_secs(self.imaged.planned.claim.record.spec.start_timeout.into());
        let patience = self.chosen.boot_timeout(given);
        let channel = self.instance.take_link()?;
        let (reader, writer) = channel.into_split();
        let hello =
            link::connect(reader, writer, FIRST_GENERATION, concat!("mimeo ", env!("CARGO_PKG_VERSION")));
        tokio::select! {
            answered = timeout(patience, hello) => match answered {
                Ok(Ok((link, _))) => Ok(link),
                Ok(Err(error)) => Err(self.lost(error).await),
                Err(_) => {
                    let seconds = patience.as_secs() as u32;
                    Err(StageError::Silent { seconds, dump: HangDump::default() })
                }
            },
            exit = self.instance.wait() => Err(died(&exit)),
        }
    }

    /// Most often the link is gone since the machine is: then that is the reason.
    async fn lost(&mut self, error: LinkError) -> StageError {
        match timeout(LAST_WORDS, self.instance.wait()).await {
            Ok(exit) => died(&exit),
            Err(_) => error.into(),
        }
    }

    /// Ends the machine and says why, with what its console said last.
    pub(super) async fn fail(mut self, engine: &Engine, stage: Stage, source: StageError) -> StartError {
        let claim = &self.imaged.planned.claim;
        let (id, console) = (claim.record.id.short(), claim.dir.join("console.log"));
        let guest = SilentGuest { instance: self.instance.as_mut(), id, console: &console };
        let source = hang::explain(engine.home(), guest, source).await;
        self.instance.kill().await;
        StartError { stage, source, console: console_tail(&claim.dir) }
    }
}

/// What the console of the machine in `dir` said last.
pub(crate) fn console_tail(dir: &Path) -> Vec<String> {
    let text = std::fs::read(dir.join("console.log")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().map(|line| line.trim_end().to_owned()).collect();
    lines[lines.len().saturating_sub(CONSOLE_LINES)..].to_vec()
}

pub(crate) fn died(exit: &VmExit) -> StageError {
    StageError::Died { how: exit.to_string() }
}

/// What makes the guest this machine.
pub(super) fn configuration(record: &Record, order: DiskOrder) -> std::io::Result<Configure> {
    Ok(Configure {
        machine: record.id.to_string(),
        hostname: hostname(record),
        unix_nanos: unix_nanos(),
        interface: record.network.as_ref().map(interface),
        dns: dns(record),
        dns_search: Vec::new(),
        hosts: record.spec.add_hosts.clone(),
        image: disk(IMAGE_SERIAL, order),
        writable: Some(disk(WRITABLE_SERIAL, order)),
        generation: record.generation.clone(),
        entropy: Some(identity::entropy()?),
        env: record.spec.env.clone(),
    })
}

/// One of the two disks that every machine has, as its guest finds it.
pub(crate) fn disk(serial: &str, order: DiskOrder) -> Disk {
    let position = match order {
        DiskOrder::Serial => None,
        // As `launched::disks` has them.
        DiskOrder::Position => Some(u32::from(serial != IMAGE_SERIAL)),
    };
    Disk { serial: serial.to_owned(), filesystem: FILESYSTEM.to_owned(), position }
}

pub(crate) fn hostname(record: &Record) -> String {
    record.spec.hostname.clone().unwrap_or_else(|| record.id.short().to_owned())
}

pub(crate) fn unix_nanos() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}

pub(crate) fn interface(network: &NetworkRecord) -> Interface {
    Interface {
        mac: network.mac.to_string(),
        address: Address { ip: network.ip, prefix: Subnet::PREFIX },
        gateway: network.gateway,
        mtu: MTU,
        ipv6: network.outer.and_then(|outer| outer.ip6).map(|_| Address6 {
            ip: Subnet::GUEST_6,
            prefix: Subnet::PREFIX_6,
            gateway: Subnet::GATEWAY_6,
        }),
    }
}

pub(crate) fn dns(record: &Record) -> Vec<String> {
    match &record.network {
        _ if !record.spec.dns.is_empty() => record.spec.dns.clone(),
        Some(network) => vec![network.subnet.dns().to_string()],
        None => Vec::new(),
    }
}

/// Makes a request that is answered with `done`.
pub(super) async fn ask(link: &Link, request: &Request) -> Result<(), StageError> {
    let mut stream = link.open(request)?;
    match stream.receiver.message::<Reply>().await? {
        Reply::Done => Ok(()),
        Reply::Failed(failure) => Err(failure.into()),
        answer => Err(StageError::Answer { answer: format!("{answer:?}") }),
    }
}
