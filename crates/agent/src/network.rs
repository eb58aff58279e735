//! The network cards, set up through rtnetlink with messages of our own: three
//! kinds of them do not carry a library.

mod message;

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mimeo_agent_protocol::message::Interface;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

use crate::failure::{Context, SystemError};
use message::{add_address, add_route, link_up, refusal};

/// The loopback card's number in every network namespace.
const LOOPBACK: u32 = 1;
/// How long the kernel may take to show the card: its driver may just have come.
const DEADLINE: Duration = Duration::from_secs(10);

/// Brings the loopback up, and the card with its address and route.
pub(crate) fn up(interface: Option<&Interface>) -> Result<(), SystemError> {
    let kernel = Kernel::open().context("open a netlink socket")?;
    kernel.ask(link_up(LOOPBACK, None)).context("bring the loopback up")?;
    let Some(interface) = interface else { return Ok(()) };
    let index = wait(&interface.mac)?;
    let address = interface.address;
    kernel.ask(link_up(index, Some(interface.mtu))).context("bring the network card up")?;
    kernel.ask(add_address(index, address.ip, address.prefix)).context("set the address")?;
    if interface.gateway == Ipv4Addr::UNSPECIFIED {
        return Ok(());
    }
    kernel.ask(add_route(index, interface.gateway)).context("set the default route")
}

/// A conversation with the kernel's routing.
#[derive(Debug)]
struct Kernel(OwnedFd);

impl Kernel {
    fn open() -> Result<Self, Errno> {
        // Protocol 0 of netlink is routing.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self(socket))
    }

    /// Sends a message and waits for its acknowledgement.
    fn ask(&self, message: Vec<u8>) -> Result<(), Errno> {
        send(&self.0, &message, SendFlags::empty())?;
        let mut answer = [0; 4096];
        let (length, _) = recv(&self.0, &mut answer[..], RecvFlags::empty())?;
        match refusal(&answer[..length]) {
            0 => Ok(()),
            errno => Err(Errno::from_raw_os_error(errno)),
        }
    }
}

fn wait(mac: &str) -> Result<u32, SystemError> {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(index) = find(mac) {
            return Ok(index);
        }
        if Instant::now() > end {
            return Err(SystemError::new(format!("find the network card {mac}"), Errno::NODEV));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn find(mac: &str) -> Option<u32> {
    let cards = std::fs::read_dir("/sys/class/net").ok()?;
    cards.flatten().find_map(|card| {
        let address = std::fs::read_to_string(card.path().join("address")).ok()?;
        if !address.trim().eq_ignore_ascii_case(mac) {
            return None;
        }
        std::fs::read_to_string(card.path().join("ifindex")).ok()?.trim().parse().ok()
    })
}
