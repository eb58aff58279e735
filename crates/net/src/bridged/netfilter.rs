//! nftables over netlink, for changes that belong to one machine.
//!
//! Starting `nft` takes longer than everything else that attaches a machine to the bridge. So `nft` applies only [the
//! table](super::rules::BASE), which an administrator can read and which rarely changes. Elements of that table, and the
//! rules of a machine's namespace, are sent as messages of `linux/netfilter/nf_tables.h`.

mod attributes;
mod inner;

use std::io;
use std::net::IpAddr;

use rustix::net::sockopt::set_socket_send_buffer_size_force;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send};

use super::rules::{Element, Key, TABLE};
use attributes::Attributes;
pub(crate) use inner::rules as inner;

/// Length of `nlmsghdr`, which every netlink message begins with.
const HEADER: usize = 16;
/// Length of `nlmsghdr` and `nfgenmsg`, after which the attributes follow.
const HEADERS: usize = HEADER + 4;
const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const CREATES: u16 = REQUEST | libc::NLM_F_CREATE as u16;
/// Offset of a message's flags.
const FLAGS: usize = 6;
/// Enough for thousands of published ports in one batch.
const SEND_BUFFER: usize = 8 << 20;
/// Bytes of one read of the kernel's replies.
const BUFFER: usize = 1 << 16;
/// Type of an element's user data that `nft` shows as its comment (`libnftnl/udata.h`).
const COMMENT: u8 = 0;

/// Changes that the kernel applies atomically.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// Offset of the last message; none if the batch is empty.
    last: Option<usize>,
}

impl Batch {
    pub(crate) fn new() -> Self {
        let mut batch = Self { bytes: Vec::new(), last: None };
        batch.push_boundary(libc::NFNL_MSG_BATCH_BEGIN);
        batch
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// Adds elements, with the machine's id as their comment. The commit fails if a key exists with another value.
    pub(crate) fn add(&mut self, elements: &[Element], id: &str) {
        for element in elements {
            let mut comment = vec![COMMENT, id.len() as u8 + 1];
            comment.extend_from_slice(id.as_bytes());
            comment.push(0);
            let to = element
                .to
                .map(|(ip, port)| Attributes::default().bytes(1, &[address(ip), word(port)].concat()));
            let described = key(&element.key).maybe_nested(2, to).bytes(6, &comment);
            self.push(libc::NFT_MSG_NEWSETELEM, CREATES, &set_message(element.set, described));
        }
    }

    /// Deletes elements. The commit fails if one does not exist.
    pub(crate) fn delete(&mut self, elements: &[Element]) {
        for element in elements {
            self.push(libc::NFT_MSG_DELSETELEM, REQUEST, &set_message(element.set, key(&element.key)));
        }
    }

    /// Deletes the table, whether it exists or not.
    pub(crate) fn delete_table(&mut self) {
        let table = Attributes::default().text(1, TABLE);
        self.push(libc::NFT_MSG_NEWTABLE, CREATES, &table);
        self.push(libc::NFT_MSG_DELTABLE, REQUEST, &table);
    }

    /// Applies the changes in this thread's network namespace.
    ///
    /// # Errors
    /// The first error that the kernel reports; nothing is changed then.
    pub(crate) fn commit(mut self) -> io::Result<()> {
        // The last message alone is acknowledged: replies to all might not fit into the socket's buffer, which would be
        // reported as a failure of changes that were made. Errors are delivered for any message.
        if let Some(flags) = self.last.and_then(|last| self.bytes.get_mut(last + FLAGS..last + FLAGS + 2)) {
            flags.copy_from_slice(
                &(u16::from_ne_bytes([flags[0], flags[1]]) | libc::NLM_F_ACK as u16).to_ne_bytes(),
            );
        }
        self.push_boundary(libc::NFNL_MSG_BATCH_END);
        exchange(&self.bytes, |Reply { kind, body }| {
            if i32::from(kind) == libc::NLMSG_ERROR { error_in(body).map(|()| false) } else { Ok(true) }
        })
    }

    fn push(&mut self, message: libc::c_int, flags: u16, attributes: &Attributes) {
        self.last = Some(self.bytes.len());
        let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | message) as u16;
        write(&mut self.bytes, kind, flags, (libc::NFPROTO_INET as u8, 0), attributes);
    }

    fn push_boundary(&mut self, kind: libc::c_int) {
        let filter = (0, libc::NFNL_SUBSYS_NFTABLES as u16);
        write(&mut self.bytes, kind as u16, REQUEST, filter, &Attributes::default());
    }
}

/// The kernel's count of rule changes in this thread's network namespace, by any program.
///
/// # Errors
/// When the kernel has no nf_tables, or this process may not use it.
pub(crate) fn rule_count() -> io::Result<u32> {
    let mut request = Vec::new();
    let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_GETGEN) as u16;
    write(&mut request, kind, REQUEST, (0, 0), &Attributes::default());
    let mut found = None;
    exchange(&request, |Reply { kind, body }| {
        if i32::from(kind) == libc::NLMSG_ERROR {
            return error_in(body).map(|()| true);
        }
        // NFTA_GEN_ID is the first attribute; it follows nfgenmsg and its own header.
        found = body.get(8..).and_then(|value| value.first_chunk()).map(|value| u32::from_be_bytes(*value));
        Ok(false)
    })?;
    found.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The error of an `nlmsgerr`: its first field, 0 for an acknowledgement.
fn error_in(body: &[u8]) -> io::Result<()> {
    match body.first_chunk().map(|code| i32::from_ne_bytes(*code)) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// One message from the kernel.
struct Reply<'a> {
    kind: u16,
    body: &'a [u8],
}

/// Sends messages and passes each reply to `next`, until `next` returns false. The kernel handles netlink messages
/// within `send`, so all replies are queued when it returns: an empty socket is an error, not a reason to wait.
fn exchange(messages: &[u8], mut next: impl FnMut(Reply<'_>) -> io::Result<bool>) -> io::Result<()> {
    let (kind, flags) = (SocketType::RAW, SocketFlags::CLOEXEC);
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, kind, flags, Some(netlink::NETFILTER))?;
    if messages.len() > SEND_BUFFER / 64 {
        set_socket_send_buffer_size_force(&socket, SEND_BUFFER)?;
    }
    send(&socket, messages, SendFlags::empty())?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let (received, _) = recv(&socket, &mut buffer[..], RecvFlags::DONTWAIT)?;
        let mut rest = &buffer[..received];
        while let Some((reply, after)) = first(rest) {
            if !next(reply)? {
                return Ok(());
            }
            rest = after;
        }
    }
}

fn first(bytes: &[u8]) -> Option<(Reply<'_>, &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let body = bytes.get(HEADER..length)?;
    Some((Reply { kind, body }, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn write(to: &mut Vec<u8>, kind: u16, flags: u16, (family, resource): (u8, u16), attributes: &Attributes) {
    let length = (HEADERS + attributes.as_bytes().len()) as u32;
    to.extend(length.to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(flags.to_ne_bytes());
    // Sequence number and port id; replies are not matched by them.
    to.extend([0; 8]);
    to.extend([family, 0]);
    to.extend(resource.to_be_bytes());
    to.extend(attributes.as_bytes());
}

fn set_message(set: &str, element: Attributes) -> Attributes {
    let elements = Attributes::default().nested(1, element);
    Attributes::default().text(1, TABLE).text(2, set).nested(3, elements)
}

/// The key of an element: its fields, each padded to four bytes.
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
