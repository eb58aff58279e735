//! The fault of the tests' vsock device, and how the harness avoids it. These tests act as the device's
//! vhost-user front-end in place of QEMU, so that they can stop between the memory table and the virtqueues.
#![allow(missing_debug_implementations, unreachable_pub, reason = "a test's own helpers")]
#![allow(dead_code, reason = "the helpers are also those of the other test files")]

#[path = "harness/vsock.rs"]
mod vsock;

use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::EventfdFlags;
use rustix::fs::MemfdFlags;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Timeout of the program; a loaded host is slow.
const TIMEOUT: Duration = Duration::from_secs(60);
const MEMORY: u64 = 1 << 20;

// Requests of the vhost-user protocol.
const GET_FEATURES: u32 = 1;
const SET_FEATURES: u32 = 2;
const SET_OWNER: u32 = 3;
const SET_MEM_TABLE: u32 = 5;
const SET_VRING_KICK: u32 = 12;
/// The protocol's version, as a request's flags.
const VERSION: u32 = 1;

/// A connection to the device, like QEMU's.
struct FrontEnd(UnixStream);

impl FrontEnd {
    /// Sends everything that QEMU sends before the queues.
    fn connect(device: &Path) -> Self {
        let mut front_end = Self(UnixStream::connect(device).expect("the device listens"));
        let features = front_end.features();
        front_end.send(SET_OWNER, &[], &[]);
        front_end.send(SET_FEATURES, &features.to_le_bytes(), &[]);
        let memory = rustix::fs::memfd_create("memory", MemfdFlags::CLOEXEC).expect("memory");
        rustix::fs::ftruncate(&memory, MEMORY).expect("its size");
        // One region: its guest address, size, our address, and where it begins in the file.
        let words = [1, 0, MEMORY, 0x7f00_0000_0000, 0];
        let body: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        front_end.send(SET_MEM_TABLE, &body, &[memory.as_fd()]);
        front_end.features();
        front_end
    }

    /// Gives the device its queues of received and of sent packets.
    fn add_queues(&mut self) {
        for index in 0_u64..2 {
            let kick = rustix::event::eventfd(0, EventfdFlags::NONBLOCK).expect("an eventfd");
            self.send(SET_VRING_KICK, &index.to_le_bytes(), &[kick.as_fd()]);
        }
        self.features();
    }

    /// Asks for the features. The reply also shows that the device has handled all earlier requests.
    fn features(&mut self) -> u64 {
        self.send(GET_FEATURES, &[], &[]);
        let (mut header, mut features) = ([0; 12], [0; 8]);
        self.0.read_exact(&mut header).expect("a header");
        self.0.read_exact(&mut features).expect("features");
        u64::from_le_bytes(features)
    }

    fn send(&mut self, request: u32, body: &[u8], descriptors: &[BorrowedFd<'_>]) {
        let size = u32::try_from(body.len()).expect("short");
        let mut message: Vec<u8> = [request, VERSION, size].into_iter().flat_map(u32::to_le_bytes).collect();
        message.extend_from_slice(body);
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(descriptors.is_empty() || control.push(SendAncillaryMessage::ScmRights(descriptors)));
        let sent = sendmsg(&self.0, &[IoSlice::new(&message)], &mut control, SendFlags::NOSIGNAL);
        assert_eq!(sent.expect("sent"), message.len());
    }
}

#[test]
fn a_device_without_queues_is_not_connected_to() {
    if !vsock::is_installed() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let device = vsock::Device::start(directory.path());
    let connector = device.connector();
    let mut front_end = FrontEnd::connect(&directory.path().join("device"));
    assert!(!connector.has_queues());
    assert!(connector.connect().is_none());
    front_end.add_queues();
    assert!(connector.has_queues());
    wait_until("the worker runs", || connector.has_worker());
}

/// The fault itself. If this fails with a newer version of the program, the harness need not avoid it.
#[test]
fn a_connection_before_the_queues_ends_the_worker_of_a_device() {
    if !vsock::is_installed() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let device = vsock::Device::start(directory.path());
    let connector = device.connector();
    let _front_end = FrontEnd::connect(&directory.path().join("device"));
    wait_until("the worker runs", || connector.has_worker());
    let mut early = UnixStream::connect(directory.path().join("link")).expect("the device listens");
    early.write_all(b"CONNECT 1024\n").expect("written");
    wait_until("the worker has ended", || !connector.has_worker());
}

fn wait_until(condition: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + TIMEOUT;
    while !holds() {
        assert!(Instant::now() < end, "timeout: {condition}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
