//! The other end: the same program, on the host and in machines.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command};

use anyhow::{Context, Result};

use super::PROGRAM;
use super::figures::Way;
use crate::bench::lab::Site;

/// The services, by the program's ports.
const SERVICES: [u16; 3] = [7, 9, 19];

/// The other end. It ends with this.
#[derive(Debug)]
pub(super) struct Peer<'a> {
    pub(super) way: Way,
    at: IpAddr,
    /// Where each of the services is to be found.
    ports: [u16; 3],
    holds: Holds<'a>,
}

#[derive(Debug)]
enum Holds<'a> {
    Process(Child),
    Machine(&'a Site<'a>),
}

impl<'a> Peer<'a> {
    /// A process of this host. Its ports are fixed: nobody measures on a host that serves something there.
    pub(super) fn on_host(program: &Path) -> Result<Self> {
        let child = Command::new(program).spawn().with_context(|| program.display().to_string())?;
        let holds = Holds::Process(child);
        Ok(Self { way: Way::Host, at: Ipv4Addr::LOCALHOST.into(), ports: SERVICES, holds })
    }

    /// A machine.
    pub(super) fn in_machine(site: &'a Site<'a>, image: &str, way: Way) -> Result<Self> {
        let network = if way == Way::Rootless { "rootless" } else { "bridged" };
        let published = SERVICES.map(|port| format!("127.0.0.1::{port}"));
        let mut words = vec!["run", "-d", "--rm", "--name", way.word(), "--network", network];
        published.iter().for_each(|port| words.extend(["-p", port]));
        let program = format!("/{PROGRAM}");
        words.extend([image, &program]);
        site.mimeo(&words)?;
        let mut peer =
            Self { way, at: Ipv4Addr::LOCALHOST.into(), ports: SERVICES, holds: Holds::Machine(site) };
        if way == Way::Bridged {
            let told = site.json(&["inspect", way.word()])?;
            let ip = told.pointer("/0/NetworkSettings/IPAddress").and_then(serde_json::Value::as_str);
            peer.at = ip.context("inspect tells no address")?.parse()?;
            return Ok(peer);
        }
        for (service, port) in SERVICES.iter().zip(&mut peer.ports) {
            let told = site.mimeo(&["port", way.word(), &service.to_string()])?;
            *port = told.rsplit(':').next().unwrap_or_default().parse().context("no port")?;
        }
        Ok(peer)
    }

    /// Where a service is, by the program's port.
    pub(super) fn service(&self, port: u16) -> SocketAddr {
        let index = SERVICES.iter().position(|service| *service == port).unwrap_or_default();
        (self.at, self.ports[index]).into()
    }
}

impl Drop for Peer<'_> {
    fn drop(&mut self) {
        match &mut self.holds {
            Holds::Process(child) => {
                child.kill().ok();
                child.wait().ok();
            }
            Holds::Machine(site) => {
                site.stop(self.way.word()).ok();
            }
        }
    }
}
