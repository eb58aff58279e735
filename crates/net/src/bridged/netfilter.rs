//! The kernel's packet filter, told what is one machine's without a program in between.
//!
//! Starting `nft` takes longer than all else that a machine on the bridge needs. So that program is left what an
//! administrator reads, [the table](super::rules::BASE), which is told once; elements of it, and the rules of a machine's
//! namespace, are messages of `linux/netfilter/nf_tables.h`.

mod attributes;
mod inner;

use std::io;
use std::net::IpAddr;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send};

use super::rules::{Element, Key, TABLE};
use attributes::Attributes;
pub(crate) use inner::rules as inner;

/// Bytes of a message before its attributes: those of every message, and those of the filter's (`nlmsghdr`, `nfgenmsg`).
const HEADER: usize = 16;
const HEADERS: usize = HEADER + 4;
const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const ACKNOWLEDGED: u16 = REQUEST | libc::NLM_F_ACK as u16;
const CREATES: u16 = ACKNOWLEDGED | libc::NLM_F_CREATE as u16;
const ANSWERS: usize = 1 << 16;
/// What tells `nft` that bytes which it keeps with an element are a comment (`libnftnl/udata.h`).
const COMMENT: u8 = 0;

/// Changes that are made all or none.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    messages: u32,
}

impl Batch {
    pub(crate) fn new() -> Self {
        let mut batch = Self { bytes: Vec::new(), messages: 0 };
        batch.bound(libc::NFNL_MSG_BATCH_BEGIN);
        batch
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Adds elements as those of the machine `id`: one that is there with another value is an error.
    pub(crate) fn add(&mut self, elements: &[Element], id: &str) {
        for element in elements {
            let mut comment = vec![COMMENT, id.len() as u8 + 1];
            comment.extend_from_slice(id.as_bytes());
            comment.push(0);
            let to = element
                .to
                .map(|(ip, port)| Attributes::default().bytes(1, &[address(ip), word(port)].concat()));
            let described = key(&element.key).maybe_nested(2, to).bytes(6, &comment);
            self.tell(libc::NFT_MSG_NEWSETELEM, CREATES, &of_set(element.set, described));
        }
    }

    /// Takes elements away: one that is not there is an error.
    pub(crate) fn delete(&mut self, elements: &[Element]) {
        for element in elements {
            self.tell(libc::NFT_MSG_DELSETELEM, ACKNOWLEDGED, &of_set(element.set, key(&element.key)));
        }
    }

    /// Takes the table away, if it is there.
    pub(crate) fn delete_table(&mut self) {
        let table = Attributes::default().text(1, TABLE);
        self.tell(libc::NFT_MSG_NEWTABLE, CREATES, &table);
        self.tell(libc::NFT_MSG_DELTABLE, ACKNOWLEDGED, &table);
    }

    /// Makes the changes, in the network namespace of this thread.
    ///
    /// # Errors
    /// What the kernel refuses: then nothing is changed.
    pub(crate) fn commit(mut self) -> io::Result<()> {
        self.bound(libc::NFNL_MSG_BATCH_END);
        let mut waiting = self.messages;
        exchange(&self.bytes, |answer| {
            let Answer { kind, body } = answer;
            if i32::from(kind) != libc::NLMSG_ERROR {
                return Ok(true);
            }
            match body.first_chunk().map(|code| i32::from_ne_bytes(*code)) {
                Some(0) => waiting -= 1,
                Some(code) => return Err(io::Error::from_raw_os_error(-code)),
                None => return Err(io::ErrorKind::InvalidData.into()),
            }
            Ok(waiting > 0)
        })
    }

    fn tell(&mut self, message: libc::c_int, flags: u16, attributes: &Attributes) {
        self.messages += 1;
        let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | message) as u16;
        write(&mut self.bytes, kind, flags, (libc::NFPROTO_INET as u8, 0), attributes);
    }

    fn bound(&mut self, kind: libc::c_int) {
        let filter = (0, libc::NFNL_SUBSYS_NFTABLES as u16);
        write(&mut self.bytes, kind as u16, REQUEST, filter, &Attributes::default());
    }
}

/// The number of the rules' present state: each change by anybody has the next.
///
/// # Errors
/// When the kernel does not say.
pub(crate) fn generation() -> io::Result<u32> {
    let mut request = Vec::new();
    let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_GETGEN) as u16;
    write(&mut request, kind, REQUEST, (0, 0), &Attributes::default());
    let mut found = None;
    exchange(&request, |Answer { body, .. }| {
        // The first attribute, behind the filter's header.
        found = body.get(8..).and_then(|value| value.first_chunk()).map(|value| u32::from_be_bytes(*value));
        Ok(false)
    })?;
    found.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// What the kernel answers.
struct Answer<'a> {
    kind: u16,
    body: &'a [u8],
}

/// Sends messages, and tells of the answers for as long as they are asked for. The kernel has answered when it has taken them.
fn exchange(messages: &[u8], mut tell: impl FnMut(Answer<'_>) -> io::Result<bool>) -> io::Result<()> {
    let (kind, flags) = (SocketType::RAW, SocketFlags::CLOEXEC);
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, kind, flags, Some(netlink::NETFILTER))?;
    send(&socket, messages, SendFlags::empty())?;
    let mut buffer = vec![0; ANSWERS];
    loop {
        let (received, _) = recv(&socket, &mut buffer[..], RecvFlags::DONTWAIT)?;
        let mut rest = &buffer[..received];
        while let Some((answer, after)) = first(rest) {
            if !tell(answer)? {
                return Ok(());
            }
            rest = after;
        }
    }
}

fn first(bytes: &[u8]) -> Option<(Answer<'_>, &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let body = bytes.get(HEADER..length)?;
    Some((Answer { kind, body }, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn write(to: &mut Vec<u8>, kind: u16, flags: u16, (family, resource): (u8, u16), attributes: &Attributes) {
    let length = (HEADERS + attributes.as_bytes().len()) as u32;
    to.extend(length.to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(flags.to_ne_bytes());
    // Its number and the sender's, which nobody asks for.
    to.extend([0; 8]);
    to.extend([family, 0]);
    to.extend(resource.to_be_bytes());
    to.extend(attributes.as_bytes());
}

fn of_set(set: &str, element: Attributes) -> Attributes {
    let elements = Attributes::default().nested(1, element);
    Attributes::default().text(1, TABLE).text(2, set).nested(3, elements)
}

/// An element's key: its parts, each filled up to four bytes.
fn key(key: &Key) -> Attributes {
    let parts = match *key {
        Key::Any(protocol, port) => [vec![protocol.number(), 0, 0, 0], word(port)].concat(),
        Key::At(protocol, ip, port) => [vec![protocol.number(), 0, 0, 0], address(ip), word(port)].concat(),
        Key::Machine(ip) => address(ip),
    };
    Attributes::default().nested(1, Attributes::default().bytes(1, &parts))
}

fn address(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn word(port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![high, low, 0, 0]
}
