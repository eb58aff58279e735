//! A mount by a real kernel: the host's, in a separate mount namespace.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, spawn};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

use super::client::server;
use crate::limits::{Limits, MAX_REQUEST};
use crate::server::Server;

const IN_NAMESPACE: &str = "MIMEO_TEST_IN_NAMESPACE";

/// Runs the calling test again in a mount namespace, and there its body.
pub(super) fn in_namespace<F: FnOnce()>(body: F) {
    if std::env::var_os(IN_NAMESPACE).is_some() {
        return body();
    }
    let test = test_around::<F>();
    let output = Command::new("unshare")
        .args(["--mount", "--map-root-user"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env(IN_NAMESPACE, "1")
        .output()
        .expect("util-linux's unshare is needed");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.contains("1 passed"), "in the namespace: {stdout}{stderr}");
}

/// The name of the test that contains a closure. The thread's name is not
/// usable: a single test runs on the main thread.
fn test_around<F>() -> &'static str {
    let path = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
    path.split_once("::").expect("below the crate").1
}

/// A share and its FUSE mount.
pub(super) struct Mounted {
    pub directory: TempDir,
    pub server: Arc<Server>,
    threads: Vec<JoinHandle<()>>,
}

impl Mounted {
    pub(super) fn new(read_only: bool) -> Self {
        Self::with(read_only, Limits::shared_by(1))
    }

    pub(super) fn with(read_only: bool, limits: Limits) -> Self {
        let directory = TempDir::new().expect("directory");
        for name in ["host", "guest"] {
            std::fs::create_dir(directory.path().join(name)).expect(name);
        }
        let device = openat(CWD, "/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        let device = Arc::new(device.expect("/dev/fuse is needed"));
        let order = Arc::new(Mutex::new(()));
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions",
            device.as_raw_fd()
        );
        let options = CString::new(options).expect("options");
        mount("mimeo", directory.path().join("guest"), "fuse", MountFlags::NODEV, options.as_c_str())
            .expect("mount");
        let server = server(&directory.path().join("host"), read_only, limits);
        let mut threads: Vec<_> =
            (0..4).map(|_| serve(server.clone(), device.clone(), order.clone())).collect();
        threads.push(serve_locks(server.clone(), device));
        Self { directory, server, threads }
    }

    pub(super) fn host(&self, name: &str) -> PathBuf {
        self.directory.path().join("host").join(name)
    }

    pub(super) fn guest(&self, name: &str) -> PathBuf {
        self.directory.path().join("guest").join(name)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(self.directory.path().join("guest"), UnmountFlags::DETACH).expect("unmount");
        self.server.locks.close();
        for thread in self.threads.drain(..) {
            thread.join().expect("no thread panicked");
        }
    }
}

fn serve(server: Arc<Server>, device: Arc<OwnedFd>, order: Arc<Mutex<()>>) -> JoinHandle<()> {
    spawn(move || {
        let mut buffer = vec![0; MAX_REQUEST];
        loop {
            let in_order = order.lock().expect("no thread panicked");
            let Ok(length) = rustix::io::read(&*device, &mut buffer) else { return };
            let release = server.record_release(&buffer[..length]);
            drop(in_order);
            let reply = server.handle(&buffer[..length]);
            drop(release);
            if let Some(reply) = reply {
                rustix::io::write(&*device, &reply).ok();
            }
        }
    })
}

fn serve_locks(server: Arc<Server>, device: Arc<OwnedFd>) -> JoinHandle<()> {
    spawn(move || {
        while let Some(reply) = server.next_lock_reply() {
            rustix::io::write(&*device, &reply).ok();
        }
    })
}

/// Runs a shell script in the directory and returns its output.
pub(super) fn shell(directory: &Path, script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).current_dir(directory).output().expect("sh");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
