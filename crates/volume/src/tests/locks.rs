//! `flock`, through a real kernel and with invalid requests.

use std::fs::{self, File};
use std::path::Path;
use std::thread::spawn;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::client::{Client, message, u32_at, u32s, u64_at, u64s};
use super::mounted::{Mounted, in_namespace};
use crate::limits::MAX_WAITING_LOCKS;
use crate::wire::opcode;

const FLOCK: u32 = 1;
const EXCLUSIVE: u32 = 1;
const UNLOCK: u32 = 2;

fn lock_request(handle: u64, kind: u32, flags: u32) -> Vec<u8> {
    [u64s(&[handle, 0, 0, 0]), u32s(&[kind, 0, flags, 0])].concat()
}

#[test]
fn locks_hold_between_host_and_guest() {
    in_namespace(|| {
        let volume = Mounted::new(false);
        fs::write(volume.host("file"), "").expect("write");
        let [host, guest] =
            [volume.host("file"), volume.guest("file")].map(|path| File::open(path).expect("open"));
        flock(&host, FlockOperation::LockExclusive).expect("free");
        assert_eq!(flock(&guest, FlockOperation::NonBlockingLockShared), Err(Errno::WOULDBLOCK));
        let waiter = spawn(move || flock(&guest, FlockOperation::LockExclusive).map(|()| guest));
        flock(&host, FlockOperation::Unlock).expect("locked");
        let guest = waiter.join().expect("joined").expect("it got the lock");
        assert_eq!(flock(&host, FlockOperation::NonBlockingLockShared), Err(Errno::WOULDBLOCK));
        drop(guest);
        flock(&host, FlockOperation::LockExclusive).expect("the close releases it");
    });
}

/// The kernel does not wait for the `RELEASE` of a closed file.
#[test]
fn a_closed_file_is_free_for_the_next_attempt() {
    in_namespace(|| {
        let volume = Mounted::new(false);
        fs::write(volume.host("file"), "").expect("write");
        for attempt in 0..1000 {
            let file = File::open(volume.guest("file")).expect("open");
            assert_eq!(flock(&file, FlockOperation::NonBlockingLockExclusive), Ok(()), "{attempt}");
        }
    });
}

#[test]
fn an_attempt_does_not_wait_for_releases_of_other_files() {
    let client = Client::new();
    let file = client.file();
    let (holder, other) = (client.open(file).expect("opened"), client.open(file).expect("opened"));
    let lock = |handle| client.call(opcode::SETLK, file, &lock_request(handle, EXCLUSIVE, FLOCK)).err();
    let _release = client.server.record_release(&message(opcode::RELEASE, file + 1, &u64s(&[1, 0, 0])));
    assert_eq!((lock(holder), lock(other)), (None, Some(Errno::WOULDBLOCK)));
}

#[test]
fn invalid_lock_requests_are_refused() {
    let client = Client::new();
    let handle = client.open(client.file()).expect("opened");
    let lock = |handle, kind, flags| client.call(opcode::SETLK, 2, &lock_request(handle, kind, flags)).err();
    assert_eq!(lock(handle, EXCLUSIVE, FLOCK), None);
    assert_eq!(lock(handle + 1, EXCLUSIVE, FLOCK), Some(Errno::BADF));
    assert_eq!(lock(handle, 3, FLOCK), Some(Errno::INVAL));
    // The guest's kernel was not told that record locks are served.
    assert_eq!(lock(handle, EXCLUSIVE, 0), Some(Errno::NOSYS));
    assert_eq!(client.call(opcode::SETLKW, 2, &[0; 8]).err(), Some(Errno::INVAL));
}

#[test]
fn waiting_requests_are_limited_and_interrupted() {
    let client = Client::new();
    let (holder, waiter) =
        (client.open(client.file()).expect("opened"), client.open(client.file()).expect("opened"));
    client.call(opcode::SETLK, 2, &lock_request(holder, EXCLUSIVE, FLOCK)).expect("free");
    let request = message(opcode::SETLKW, 2, &lock_request(waiter, EXCLUSIVE, FLOCK));
    for _ in 0..MAX_WAITING_LOCKS {
        assert_eq!(client.server.handle(&request), None);
    }
    let reply = client.server.handle(&request).expect("one too many");
    assert_eq!(u32_at(&reply, 4) as i32, -Errno::NOLCK.raw_os_error());
    let interrupt = |unique| client.server.handle(&message(opcode::INTERRUPT, 0, &u64s(&[unique])));
    let reply = interrupt(77).expect("the reply to the request that waited");
    assert_eq!((u32_at(&reply, 4) as i32, u64_at(&reply, 8)), (-Errno::INTR.raw_os_error(), 77));
    // An interrupt may come before its request.
    assert_eq!(interrupt(78), None);
    let mut late = request.clone();
    late[8..16].copy_from_slice(&78u64.to_ne_bytes());
    assert_eq!(u64_at(&client.server.handle(&late).expect("interrupted"), 8), 78);
    client.call(opcode::SETLK, 2, &lock_request(holder, UNLOCK, FLOCK)).expect("unlocked");
    let granted = client.server.next_lock_reply().expect("granted");
    assert_eq!((u32_at(&granted, 4), u64_at(&granted, 8)), (0, 77));
    client.server.locks.close();
    assert_eq!(client.server.next_lock_reply(), None);
}

fn descriptors_of(path: &Path) -> usize {
    let descriptors = fs::read_dir("/proc/self/fd").expect("/proc");
    descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).filter(|link| link == path).count()
}

/// Otherwise they would hold descriptors that count for no limit.
#[test]
fn closed_files_end_their_waiting_requests() {
    let client = Client::new();
    let file = client.file();
    let holder = client.open(file).expect("opened");
    client.call(opcode::SETLK, file, &lock_request(holder, EXCLUSIVE, FLOCK)).expect("free");
    let wait = |handle| {
        let request = message(opcode::SETLKW, file, &lock_request(handle, EXCLUSIVE, FLOCK));
        assert_eq!(client.server.handle(&request), None);
    };
    let expect_interrupted = || {
        let reply = client.server.next_lock_reply().expect("ended");
        assert_eq!((u32_at(&reply, 4) as i32, u64_at(&reply, 8)), (-Errno::INTR.raw_os_error(), 77));
    };
    let before = descriptors_of(&client.path("file"));
    for _ in 0..2 {
        let waiter = client.open(file).expect("opened");
        (0..10).for_each(|_| wait(waiter));
        client.call(opcode::RELEASE, file, &u64s(&[waiter, 0, 0])).expect("closed");
        assert_eq!(descriptors_of(&client.path("file")), before);
        (0..10).for_each(|_| expect_interrupted());
    }
    wait(client.open(file).expect("opened"));
    client.call(opcode::DESTROY, 0, &[]).expect("destroyed");
    assert_eq!(descriptors_of(&client.path("file")), 0);
    expect_interrupted();
}

/// A request can be interrupted, or its file closed, while it is being tried.
#[test]
fn waiting_requests_end_while_they_are_tried() {
    let client = Client::new();
    let file = client.file();
    let holder = client.open(file).expect("opened");
    client.call(opcode::SETLK, file, &lock_request(holder, EXCLUSIVE, FLOCK)).expect("free");
    std::thread::scope(|scope| {
        let replies = scope.spawn(|| {
            let results = std::iter::from_fn(|| client.server.next_lock_reply());
            results.map(|reply| u32_at(&reply, 4) as i32).collect::<Vec<_>>()
        });
        let mut direct_replies = 0;
        for number in 0..400 {
            let waiter = client.open(file).expect("opened");
            let request = message(opcode::SETLKW, file, &lock_request(waiter, EXCLUSIVE, FLOCK));
            assert_eq!(client.server.handle(&request), None);
            if number % 2 == 0 {
                let interrupt = message(opcode::INTERRUPT, 0, &u64s(&[77]));
                direct_replies += usize::from(client.server.handle(&interrupt).is_some());
            }
            client.call(opcode::RELEASE, file, &u64s(&[waiter, 0, 0])).expect("closed");
        }
        while client.server.locks.is_any_waiting() {
            std::thread::yield_now();
        }
        client.server.locks.close();
        let replies = replies.join().expect("joined");
        assert_eq!(replies.len() + direct_replies, 400);
        assert!(replies.iter().all(|error| *error == -Errno::INTR.raw_os_error()), "{replies:?}");
    });
    assert_eq!(client.server.handles.get(holder).map(drop), Ok(()));
}
