//! A minimal page server, as a baseline for measurements: one thread that waits and copies.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::Value;

use crate::PAGE;
use crate::fence::Mapping;
use crate::userfault::{Event, Messages, fence};

/// Serves one clone with a single region: copies a page for each of `faults` faults. Nothing is validated.
///
/// # Errors
/// When the memory cannot be mapped, or a call fails.
pub fn serve(listener: &UnixListener, memory: &Path, faults: u64) -> io::Result<()> {
    let file = File::open(memory)?;
    let mapping = Mapping::read_only(&file, file.metadata()?.len())?;
    let (descriptor, start) = accept_clone(listener)?;
    rustix::io::ioctl_fionbio(&descriptor, false)?;
    let mut messages = Messages::new();
    let mut answered = 0;
    while answered < faults {
        messages.read(&descriptor)?;
        for event in messages.events() {
            let Event::Fault { address } = event else { continue };
            let page = address / PAGE * PAGE;
            let source = mapping.checked_address(page - start, PAGE as usize)?;
            fence::copy(&descriptor, page, source, PAGE)?;
            answered += 1;
        }
    }
    Ok(())
}

/// A clone's descriptor, and the address of its memory.
fn accept_clone(listener: &UnixListener) -> io::Result<(OwnedFd, u64)> {
    let (stream, _) = listener.accept()?;
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(&stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let sent = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut sent) => sent.next(),
        _ => None,
    });
    let regions: Value = serde_json::from_slice(&bytes[..received.bytes])?;
    let start = regions.pointer("/0/base_host_virt_addr").and_then(Value::as_u64);
    sent.zip(start).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
