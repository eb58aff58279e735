//! A fake guest kernel that sends any message.

use std::ffi::CStr;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use tempfile::TempDir;

use crate::inodes::ROOT;
use crate::limits::Limits;
use crate::server::Server;
use crate::share::Share;
use crate::wire::opcode;

pub(super) const LIMITS: Limits = Limits { known_inodes: 1000, held_fds: 500, open_files: 100 };

pub(super) fn server(path: &Path, read_only: bool, limits: Limits) -> Arc<Server> {
    let share = Share::open(path, read_only).expect("share");
    Arc::new(Server::new(share, limits).expect("server"))
}

/// A server of the directory `shared` with some files, beside a file `secret` that is not shared.
pub(super) struct Client {
    pub directory: TempDir,
    pub server: Arc<Server>,
}

impl Client {
    pub(super) fn new() -> Self {
        Self::with(false, LIMITS)
    }

    pub(super) fn with(read_only: bool, limits: Limits) -> Self {
        let directory = TempDir::new().expect("directory");
        let shared = directory.path().join("shared");
        fs::create_dir(&shared).expect("shared");
        fs::write(directory.path().join("secret"), "secret").expect("secret");
        fs::write(shared.join("file"), "content").expect("file");
        std::os::unix::fs::symlink("../secret", shared.join("out")).expect("link");
        std::os::unix::fs::symlink("/etc", shared.join("etc")).expect("link");
        Self { server: server(&shared, read_only, limits), directory }
    }

    pub(super) fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join("shared").join(name)
    }

    pub(super) fn call(&self, code: u32, node: u64, body: &[u8]) -> Result<Vec<u8>, Errno> {
        call(&self.server, code, node, body)
    }

    /// The node of an entry.
    pub(super) fn look_up(&self, parent: u64, name: &CStr) -> Result<u64, Errno> {
        Ok(u64_at(&self.call(opcode::LOOKUP, parent, name.to_bytes_with_nul())?, 0))
    }

    /// Opens a node for reading and writing.
    pub(super) fn open(&self, node: u64) -> Result<u64, Errno> {
        Ok(u64_at(&self.call(opcode::OPEN, node, &[2, 0, 0, 0, 0, 0, 0, 0])?, 0))
    }

    pub(super) fn file(&self) -> u64 {
        self.look_up(ROOT, c"file").expect("file")
    }
}

pub(super) fn call(server: &Server, code: u32, node: u64, body: &[u8]) -> Result<Vec<u8>, Errno> {
    let reply = server.handle(&message(code, node, body)).expect("a reply");
    assert_eq!(u32_at(&reply, 0) as usize, reply.len());
    assert_eq!(u64_at(&reply, 8), 77);
    match u32_at(&reply, 4) as i32 {
        0 => Ok(reply[16..].to_vec()),
        error => Err(Errno::from_raw_os_error(-error)),
    }
}

pub(super) fn message(code: u32, node: u64, body: &[u8]) -> Vec<u8> {
    let mut message = u32s(&[40 + body.len() as u32, code]);
    message.extend(u64s(&[77, node]));
    message.extend(u32s(&[0; 4]));
    message.extend(body);
    message
}

pub(super) fn u32s(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

pub(super) fn u64s(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
