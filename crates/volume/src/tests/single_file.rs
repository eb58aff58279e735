//! A volume that consists of a single file.

use std::fs;

use rustix::io::Errno;
use tempfile::TempDir;

use super::client::{LIMITS, call, server, u32_at, u32s, u64_at, u64s};
use crate::inodes::ROOT;
use crate::wire::opcode;

fn directory() -> TempDir {
    let directory = TempDir::new().expect("directory");
    fs::write(directory.path().join("file"), "content").expect("file");
    fs::write(directory.path().join("other"), "other").expect("other");
    directory
}

#[test]
fn only_the_shared_file_is_visible() {
    let directory = directory();
    let server = server(&directory.path().join("file"), false, LIMITS);
    assert_eq!(server.share.file_name().as_deref(), Some("file"));
    assert_eq!(call(&server, opcode::LOOKUP, ROOT, b"other\0"), Err(Errno::NOENT));
    let file = u64_at(&call(&server, opcode::LOOKUP, ROOT, b"file\0").expect("file"), 0);
    call(&server, opcode::OPEN, file, &u32s(&[2, 0])).expect("open");
    let handle = u64_at(&call(&server, opcode::OPENDIR, ROOT, &[0; 8]).expect("opendir"), 0);
    let list = [u64s(&[handle, 2]), u32s(&[4096, 0]), vec![0; 16]].concat();
    let listed = call(&server, opcode::READDIR, ROOT, &list).expect("readdir");
    assert_eq!((u32_at(&listed, 16), &listed[24..28], listed.len()), (4, &b"file"[..], 32));
}

#[test]
fn other_files_cannot_be_changed() {
    let directory = directory();
    let server = server(&directory.path().join("file"), false, LIMITS);
    let names: [(u32, &[u8]); 6] = [
        (opcode::UNLINK, b"other\0"),
        (opcode::UNLINK, b"file\0"),
        (opcode::MKDIR, b"\0\0\0\0\0\0\0\0new\0"),
        (opcode::SYMLINK, b"new\0target\0"),
        (opcode::RENAME, b"\x01\0\0\0\0\0\0\0file\0other\0"),
        (opcode::SETATTR, &[0; 88]),
    ];
    for (code, body) in names {
        assert_eq!(call(&server, code, ROOT, body), Err(Errno::PERM), "{code}");
    }
    assert_eq!(call(&server, opcode::CREATE, ROOT, &[&[0; 16], &b"x\0"[..]].concat()), Err(Errno::PERM));
    assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 2);
}

/// If a directory that replaced the file were visible, so would be its content.
#[test]
fn a_directory_that_replaces_the_file_is_not_shown() {
    let directory = directory();
    let server = server(&directory.path().join("file"), false, LIMITS);
    fs::remove_file(directory.path().join("file")).expect("remove");
    fs::create_dir(directory.path().join("file")).expect("mkdir");
    assert_eq!(call(&server, opcode::LOOKUP, ROOT, b"file\0"), Err(Errno::NOENT));
    assert_eq!(server.inodes.known_count(), 0);
}
