//! Netlink requests to the kernel, in the layout of linux/netlink.h. The few message
//! types that the agent needs do not justify a library.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

const HEADER: usize = 16;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
/// Netlink's own message types.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Largest reply of a dump.
const REPLY_BYTES: usize = 32 * 1024;

/// A netlink socket.
#[derive(Debug)]
pub(crate) struct NetlinkSocket(OwnedFd);

impl NetlinkSocket {
    /// Opens a socket; without a protocol it is for rtnetlink.
    pub(crate) fn open(protocol: Option<Protocol>) -> Result<Self, Errno> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self(socket))
    }

    /// Sends a message and waits for its acknowledgement.
    pub(crate) fn request(&self, message: &Message) -> Result<(), Errno> {
        send(&self.0, &message.bytes(ACK), SendFlags::empty())?;
        let mut reply = [0; 4096];
        let (length, _) = recv(&self.0, &mut reply[..], RecvFlags::empty())?;
        match messages(&reply[..length]).next() {
            Some((ERROR, body)) => ack_result(body),
            _ => Err(Errno::PROTO),
        }
    }

    /// Sends a dump request, and returns the entries.
    pub(crate) fn list(&self, message: &Message) -> Result<Vec<Vec<u8>>, Errno> {
        send(&self.0, &message.bytes(DUMP), SendFlags::empty())?;
        let mut entries = Vec::new();
        let mut reply = vec![0; REPLY_BYTES];
        loop {
            let (length, _) = recv(&self.0, &mut reply[..], RecvFlags::empty())?;
            for (kind, body) in messages(&reply[..length]) {
                match kind {
                    DONE => return ack_result(body).map(|()| entries),
                    ERROR => return Err(ack_result(body).err().unwrap_or(Errno::PROTO)),
                    _ => entries.push(body.to_vec()),
                }
            }
        }
    }
}

/// A message that is being built.
#[derive(Debug)]
pub(crate) struct Message {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Message {
    pub(crate) fn new(kind: u16, flags: u16, body: Vec<u8>) -> Self {
        Self { kind, flags, body }
    }

    /// Adds an attribute.
    pub(crate) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.body.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
        self.body.extend_from_slice(&kind.to_ne_bytes());
        self.body.extend_from_slice(value);
        self.body.resize(self.body.len().next_multiple_of(4), 0);
        self
    }

    fn bytes(&self, flags: u16) -> Vec<u8> {
        let length = HEADER + self.body.len();
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&(length as u32).to_ne_bytes());
        bytes.extend_from_slice(&self.kind.to_ne_bytes());
        bytes.extend_from_slice(&(REQUEST | self.flags | flags).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// The messages in one reply: type and body.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// The attributes after the fixed part of a message: type and value.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The result of an acknowledgement: its body begins with an error number, 0 for success.
fn ack_result(body: &[u8]) -> Result<(), Errno> {
    let code = body.get(..4).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) if code < 0 => Err(Errno::from_raw_os_error(-code)),
        _ => Err(Errno::PROTO),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_holds_its_own_length() {
        let bytes = Message::new(20, 0x400, vec![1; 8]).with(7, &[2; 6]).bytes(ACK);
        assert_eq!(bytes.len(), 16 + 8 + 12);
        assert_eq!(u32::from_ne_bytes(bytes[..4].try_into().expect("four")) as usize, bytes.len());
        assert_eq!(u16::from_ne_bytes([bytes[6], bytes[7]]), 0x405);
        let (kind, body) = messages(&bytes).next().expect("a message");
        assert_eq!((kind, attributes(&body[8..]).next()), (20, Some((7, &[2; 6][..]))));
        assert_eq!(attributes(&body[8..]).count(), 1);
    }

    #[test]
    fn a_reply_may_hold_several_messages() {
        let two =
            [Message::new(20, 0, vec![1]).bytes(0), vec![0; 3], Message::new(DONE, 0, vec![0; 4]).bytes(0)];
        let two = two.concat();
        let kinds: Vec<u16> = messages(&two).map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [20, DONE]);
    }

    #[test]
    fn an_ack_holds_an_error_number() {
        assert_eq!(ack_result(&(-19i32).to_ne_bytes()), Err(Errno::NODEV));
        assert_eq!(ack_result(&[0; 20]), Ok(()));
        assert_eq!(ack_result(&[]), Err(Errno::PROTO));
    }

    proptest! {
        #[test]
        fn noise_neither_panics_nor_loops(noise: Vec<u8>) {
            prop_assert!(messages(&noise).count() <= noise.len());
            prop_assert!(attributes(&noise).count() <= noise.len());
        }
    }
}
