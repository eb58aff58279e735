//! The peer: the same program on the host and in machines.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command};

use anyhow::{Context, Result};

use super::PROGRAM;
use super::figures::NetworkPath;
use crate::bench::lab::Site;

/// The ports of the program's services.
const SERVICES: [u16; 3] = [7, 9, 19];

/// A running peer. It is stopped when this is dropped.
#[derive(Debug)]
pub(super) struct Peer<'a> {
    pub(super) path: NetworkPath,
    address: IpAddr,
    /// The port of each service at this address.
    ports: [u16; 3],
    kind: PeerKind<'a>,
}

#[derive(Debug)]
enum PeerKind<'a> {
    Process(Child),
    Machine(&'a Site<'a>),
}

impl<'a> Peer<'a> {
    /// Starts a process on this host. Its ports are fixed and must be free.
    pub(super) fn on_host(program: &Path) -> Result<Self> {
        let child = Command::new(program).spawn().with_context(|| program.display().to_string())?;
        let kind = PeerKind::Process(child);
        Ok(Self { path: NetworkPath::Host, address: Ipv4Addr::LOCALHOST.into(), ports: SERVICES, kind })
    }

    /// Starts a machine.
    pub(super) fn in_machine(site: &'a Site<'a>, image: &str, path: NetworkPath) -> Result<Self> {
        let network = if path == NetworkPath::Rootless { "rootless" } else { "bridged" };
        let published = SERVICES.map(|port| format!("127.0.0.1::{port}"));
        let mut words = vec!["run", "-d", "--rm", "--name", path.slug(), "--network", network];
        published.iter().for_each(|port| words.extend(["-p", port]));
        let program = format!("/{PROGRAM}");
        words.extend([image, &program]);
        site.mimeo(&words)?;
        let mut peer = Self {
            path,
            address: Ipv4Addr::LOCALHOST.into(),
            ports: SERVICES,
            kind: PeerKind::Machine(site),
        };
        if path == NetworkPath::Bridged {
            let document = site.json(&["inspect", path.slug()])?;
            let ip = document.pointer("/0/NetworkSettings/IPAddress").and_then(serde_json::Value::as_str);
            peer.address = ip.context("inspect shows no IPAddress")?.parse()?;
            return Ok(peer);
        }
        for (service, port) in SERVICES.iter().zip(&mut peer.ports) {
            let published = site.mimeo(&["port", path.slug(), &service.to_string()])?;
            *port = published.rsplit(':').next().unwrap_or_default().parse().context("no published port")?;
        }
        Ok(peer)
    }

    /// The address of the service with this port in the program.
    pub(super) fn service(&self, port: u16) -> SocketAddr {
        let index = SERVICES.iter().position(|service| *service == port).unwrap_or_default();
        (self.address, self.ports[index]).into()
    }
}

impl Drop for Peer<'_> {
    fn drop(&mut self) {
        let stopped = match &mut self.kind {
            PeerKind::Process(child) => {
                child.kill().and_then(|()| child.wait()).map(drop).map_err(Into::into)
            }
            PeerKind::Machine(site) => site.stop(self.path.slug()),
        };
        if let Err(error) = stopped {
            eprintln!("cannot stop the peer {}: {error:#}", self.path.slug());
        }
    }
}
