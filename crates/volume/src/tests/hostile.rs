//! A guest with a hostile kernel.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use proptest::prelude::*;
use rustix::io::Errno;

use super::client::{Client, LIMITS, message, u32s, u64_at, u64s};
use crate::inodes::{MAX_DEPTH, ROOT};
use crate::limits::Limits;
use crate::wire::{Request, opcode};

/// Requests with a name in a directory, and the offset of the name in the body.
const NAMING_REQUESTS: [(u32, usize); 8] = [
    (opcode::LOOKUP, 0),
    (opcode::SYMLINK, 0),
    (opcode::MKNOD, 16),
    (opcode::MKDIR, 8),
    (opcode::UNLINK, 0),
    (opcode::RMDIR, 0),
    (opcode::LINK, 8),
    (opcode::CREATE, 16),
];

#[test]
fn names_with_slashes_or_dots_are_refused() {
    let client = Client::new();
    let file = client.file();
    for (code, offset) in NAMING_REQUESTS {
        for name in ["..", ".", "", "../secret", "/etc/passwd", "etc/passwd", "out/"] {
            let mut body = if code == opcode::LINK { u64s(&[file]) } else { vec![0; offset] };
            body.extend(name.as_bytes());
            body.extend(b"\0target\0");
            assert_eq!(client.call(code, ROOT, &body), Err(Errno::INVAL), "{code} {name}");
        }
    }
    for names in ["..\0x\0", "file\0../x\0", "../secret\0x\0"] {
        let body = [u64s(&[ROOT]), names.into()].concat();
        assert_eq!(client.call(opcode::RENAME, ROOT, &body), Err(Errno::INVAL));
    }
    assert_eq!(fs::read_to_string(client.directory.path().join("secret")).expect("secret"), "secret");
}

#[test]
fn symlinks_are_not_followed() {
    let client = Client::new();
    for name in [c"out", c"etc"] {
        let link = client.look_up(ROOT, name).expect("the link itself");
        assert_eq!(client.open(link), Err(Errno::LOOP));
        assert_eq!(client.call(opcode::OPENDIR, link, &[0; 8]), Err(Errno::LOOP));
        assert_eq!(client.look_up(link, c"passwd"), Err(Errno::NOTDIR));
        let grow = [u32s(&[1 << 3, 0]), vec![0; 80]].concat();
        assert_eq!(client.call(opcode::SETATTR, link, &grow), Err(Errno::LOOP));
        let create = [u32s(&[2, 0o644, 0, 0]), name.to_bytes_with_nul().to_vec()].concat();
        assert_eq!(client.call(opcode::CREATE, ROOT, &create), Err(Errno::LOOP));
        let hard = [u64s(&[link]), b"hard\0".to_vec()].concat();
        client.call(opcode::LINK, ROOT, &hard).expect("a name for the link itself");
        assert!(fs::symlink_metadata(client.path("hard")).expect("hard").is_symlink());
        fs::remove_file(client.path("hard")).expect("remove");
    }
    let target = client.call(opcode::READLINK, client.look_up(ROOT, c"out").expect("out"), &[]);
    assert_eq!(target, Ok(b"../secret".to_vec()));
    assert_eq!(fs::read_to_string(client.directory.path().join("secret")).expect("secret"), "secret");
}

/// Changing the mode or times of a symbolic link must not change its target.
#[test]
fn the_target_of_a_symlink_is_not_changed() {
    let client = Client::new();
    let secret = client.directory.path().join("secret");
    let before = fs::metadata(&secret).expect("secret");
    let link = client.look_up(ROOT, c"out").expect("out");
    for valid in [1, 1 << 5 | 1 << 8, 1 << 1] {
        let body = [u32s(&[valid, 0]), vec![0; 80]].concat();
        client.call(opcode::SETATTR, link, &body).ok();
    }
    let after = fs::metadata(&secret).expect("secret");
    assert_eq!((before.mode(), before.ctime_nsec()), (after.mode(), after.ctime_nsec()));
}

#[test]
fn unknown_nodes_handles_and_opcodes_are_refused() {
    let client = Client::new();
    for node in [0, 2, 99, u64::MAX] {
        assert_eq!(client.look_up(node, c"file"), Err(Errno::STALE));
        assert_eq!(client.open(node), Err(Errno::STALE));
        assert!(client.server.handle(&message(opcode::FORGET, node, &u64s(&[u64::MAX]))).is_none());
    }
    let read = [u64s(&[1234, 0]), u32s(&[10, 0]), vec![0; 16]].concat();
    assert_eq!(client.call(opcode::READ, ROOT, &read), Err(Errno::BADF));
    assert_eq!(client.call(opcode::RELEASE, ROOT, &u64s(&[1234, 0, 0])), Err(Errno::BADF));
    assert_eq!(client.call(4711, ROOT, &[]), Err(Errno::NOSYS));
    assert_eq!(client.server.handle(&[0; 39]), None);
}

#[test]
fn the_root_is_never_forgotten() {
    let client = Client::new();
    client.server.handle(&message(opcode::FORGET, ROOT, &u64s(&[u64::MAX])));
    client.file();
}

#[test]
fn a_batch_shorter_than_its_count_is_applied() {
    let client = Client::new();
    let file = client.file();
    let body = [u32s(&[u32::MAX, 0]), u64s(&[file, 1, ROOT])].concat();
    assert!(client.server.handle(&message(opcode::BATCH_FORGET, 0, &body)).is_none());
    assert_eq!(client.server.inodes.known_count(), 0);
}

#[test]
fn sizes_are_checked_before_memory_is_allocated() {
    let client = Client::new();
    let file = client.file();
    let handle = client.open(file).expect("open");
    let read = [u64s(&[handle, 0]), u32s(&[u32::MAX, 0]), vec![0; 16]].concat();
    assert_eq!(client.call(opcode::READ, file, &read), Err(Errno::INVAL));
    let write = [u64s(&[handle, 0]), u32s(&[100, 0]), vec![0; 16], b"short".to_vec()].concat();
    assert_eq!(client.call(opcode::WRITE, file, &write), Err(Errno::INVAL));
    let far = [u64s(&[handle, u64::MAX]), u32s(&[1, 0]), vec![0; 16], b"x".to_vec()].concat();
    assert_eq!(client.call(opcode::WRITE, file, &far), Err(Errno::INVAL));
    let value = [u32s(&[u32::MAX, 0]), b"user.x\0y".to_vec()].concat();
    assert_eq!(client.call(opcode::SETXATTR, file, &value), Err(Errno::INVAL));
}

#[test]
fn inodes_and_open_files_have_limits() {
    let client = Client::with(false, Limits { known_inodes: 5, held_fds: 3, open_files: 4 });
    let make_directory = |count: u32| {
        let body = [u32s(&[0o755, 0]), format!("d{count}\0").into()].concat();
        client.call(opcode::MKDIR, ROOT, &body)
    };
    assert_eq!((0..9).map(make_directory).filter(|result| *result == Err(Errno::NFILE)).count(), 4);
    assert_eq!((client.server.inodes.known_count(), client.server.inodes.held_count()), (5, 3));
    let first = client.look_up(ROOT, c"d0").expect("known already");
    let opened = (0..9).map(|_| client.call(opcode::OPENDIR, first, &[0; 8]));
    assert_eq!(opened.filter(Result::is_err).count(), 5);
}

/// A descriptor that was closed because of the limit is opened again by its
/// name, unless that now leads to another file.
#[test]
fn a_closed_descriptor_is_reopened_by_name() {
    let client = Client::with(false, Limits { known_inodes: 100, held_fds: 2, open_files: 4 });
    fs::create_dir_all(client.path("a/b/c")).expect("directories");
    fs::write(client.path("a/b/c/deep"), "deep").expect("deep");
    let mut node = ROOT;
    for name in [c"a", c"b", c"c", c"deep"] {
        node = client.look_up(node, name).expect("entry");
    }
    let file = client.file();
    for name in [c"out", c"etc", c"file"] {
        client.look_up(ROOT, name).expect("entry");
    }
    client.open(node).expect("found by its path");
    for name in [c"out", c"etc"] {
        client.look_up(ROOT, name).expect("entry");
    }
    fs::rename(client.path("a/b/c"), client.path("a/b/d")).expect("rename on the host");
    assert_eq!(client.open(node), Err(Errno::NOENT));
    client.open(file).expect("still there");
}

#[test]
fn a_deep_directory_is_reopened_on_a_small_stack() {
    let client = Client::with(false, Limits { known_inodes: 5000, held_fds: 2, open_files: 4 });
    let make = |node, _| {
        let body = [u32s(&[0o755, 0]), b"d\0".to_vec()].concat();
        u64_at(&client.call(opcode::MKDIR, node, &body).expect("created"), 0)
    };
    let deepest = (0..MAX_DEPTH).fold(ROOT, make);
    let too_deep = (0..2).fold(deepest, make);
    let close_all = || [c"out", c"etc"].map(|name| client.look_up(ROOT, name).expect("entry"));
    let attributes = |node| client.call(opcode::GETATTR, node, &[0; 16]).map(drop);
    std::thread::scope(|scope| {
        let small = std::thread::Builder::new().stack_size(128 * 1024);
        let check = || {
            close_all();
            assert_eq!(attributes(deepest), Ok(()));
            close_all();
            assert_eq!(attributes(too_deep), Err(Errno::LOOP));
        };
        small.spawn_scoped(scope, check).expect("a thread").join().expect("enough stack");
    });
    // The standard library would hold a descriptor for each level.
    let removed = Command::new("rm").arg("-rf").arg(client.path("d")).status();
    assert!(removed.expect("rm").success());
}

/// A file that the guest unlinks stays accessible for as long as the guest knows its inode.
#[test]
fn unlinked_files_stay_until_forgotten() {
    let client = Client::with(false, Limits { known_inodes: 100, held_fds: 2, open_files: 4 });
    let file = client.file();
    client.call(opcode::UNLINK, ROOT, b"file\0").expect("unlink");
    for name in [c"out", c"etc", c"out", c"etc"] {
        client.look_up(ROOT, name).expect("entry");
    }
    client.call(opcode::GETATTR, file, &[0; 16]).expect("attributes");
    client.server.handle(&message(opcode::FORGET, file, &u64s(&[1])));
    assert_eq!(client.call(opcode::GETATTR, file, &[0; 16]), Err(Errno::STALE));
}

#[test]
fn special_files_are_not_opened_and_devices_are_not_created() {
    let client = Client::new();
    let node = |mode: u32, name: &str| {
        let body = [u32s(&[mode, 0x103, 0, 0]), format!("{name}\0").into()].concat();
        client.call(opcode::MKNOD, ROOT, &body)
    };
    assert_eq!(node(0o020_666, "null"), Err(Errno::PERM));
    assert_eq!(node(0o060_666, "disk"), Err(Errno::PERM));
    node(0o010_644, "pipe").expect("a pipe");
    let pipe = client.look_up(ROOT, c"pipe").expect("pipe");
    assert_eq!(client.open(pipe), Err(Errno::NXIO));
}

#[test]
fn a_read_only_share_refuses_changes() {
    let client = Client::with(true, LIMITS);
    let file = client.file();
    assert_eq!(client.open(file), Err(Errno::ROFS));
    for flags in [1, 2, 3, 0o1000] {
        assert_eq!(client.call(opcode::OPEN, file, &u32s(&[flags, 0])), Err(Errno::ROFS));
    }
    client.call(opcode::OPEN, file, &u32s(&[0, 0])).expect("open for reading");
    for code in [4, 6, 8, 9, 10, 11, 12, 13, 16, 21, 24, 35, 43, 45, 47] {
        assert_eq!(client.call(code, file, &[0; 128]), Err(Errno::ROFS), "{code}");
    }
}

#[test]
fn only_user_xattrs_are_accessible() {
    let client = Client::new();
    let file = client.file();
    for name in ["security.capability", "trusted.x", "system.posix_acl_access", "user"] {
        let body = [u32s(&[1, 0]), format!("{name}\0x").into()].concat();
        assert_eq!(client.call(opcode::SETXATTR, file, &body), Err(Errno::OPNOTSUPP), "{name}");
    }
}

#[test]
fn a_removed_shared_directory_gives_enoent() {
    let client = Client::new();
    let file = client.file();
    fs::remove_dir_all(client.path("")).expect("remove");
    assert_eq!(client.look_up(ROOT, c"file"), Err(Errno::NOENT));
    assert_eq!(client.call(opcode::MKDIR, ROOT, b"\0\0\0\0\0\0\0\0x\0"), Err(Errno::NOENT));
    client.call(opcode::GETATTR, file, &[0; 16]).expect("still held");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Any message: no panic, and a complete reply.
    #[test]
    fn random_messages_cause_no_panic(messages in prop::collection::vec((0u32..54, 0u64..6, prop::collection::vec(0u8..4, 0..200)), 1..20)) {
        let client = Client::new();
        client.file();
        for (code, node, body) in messages {
            let message = message(code, node, &body);
            assert!(Request::parse(&message).is_some());
            if let Some(reply) = client.server.handle(&message) {
                prop_assert!(reply.len() >= 16);
            }
        }
        prop_assert!(client.directory.path().join("secret").exists());
    }
}
