//! Debian's docker-registry on the loopback interface.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::until;

/// The user and the password of a registry with a login.
pub const LOGIN: (&str, &str) = ("me", "se:cret");
/// The line of htpasswd for them, with bcrypt.
const PASSWORDS: &str = "me:$2b$05$lhGSyV0EUwSB/b7/HaE9G.wgsAnlRxI70d3qc5/f0SghDf0zmxwZS\n";

/// A registry that is killed when this value is dropped.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    dir: tempfile::TempDir,
    /// Read by the registry at each login.
    passwords: Option<tempfile::NamedTempFile>,
    /// The listen address: `127.0.0.1:PORT`.
    pub address: String,
}

impl Registry {
    /// Starts an empty registry.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts an empty registry that requires [`LOGIN`].
    #[must_use]
    pub fn start_with_login() -> Self {
        let passwords = tempfile::NamedTempFile::new().expect("a file");
        fs::write(&passwords, PASSWORDS).expect("written");
        let auth = format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", passwords.path().display());
        let mut registry = Self::start_with(&auth);
        registry.passwords = Some(passwords);
        registry
    }

    fn start_with(settings: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let address = format!("127.0.0.1:{port}");
        let config = dir.path().join("config.yml");
        let storage = dir.path().join("data");
        let text = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n{settings}",
            storage.display()
        );
        fs::write(&config, text).expect("written");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("docker-registry: {error}: apt-get install docker-registry (see `make deps`)")
            });
        let registry = Self { child, dir, address, passwords: None };
        until("the registry listens", || TcpStream::connect(&registry.address).ok());
        registry
    }

    /// Pushes the `latest` image of an OCI layout as `name`; returns its full name.
    pub fn push(&self, layout: &Path, name: &str) -> String {
        self.push_with(&[], layout, name)
    }

    /// The registry's file of the largest pushed blob.
    #[must_use]
    pub fn largest_blob(&self) -> PathBuf {
        let blobs = self.dir.path().join("data/docker/registry/v2/blobs/sha256");
        let entries = |dir: PathBuf| fs::read_dir(dir).expect("readable").flatten().map(|entry| entry.path());
        let files = entries(blobs).flat_map(entries).map(|blob| blob.join("data"));
        files.max_by_key(|file| fs::metadata(file).map_or(0, |metadata| metadata.len())).expect("a blob")
    }

    /// Like [`Registry::push`], with options for `skopeo copy`.
    pub fn push_with(&self, options: &[&str], layout: &Path, name: &str) -> String {
        let full = format!("{}/{name}:latest", self.address);
        let output = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"])
            .args(options)
            .arg(format!("oci:{}:latest", layout.display()))
            .arg(format!("docker://{full}"))
            .output()
            .unwrap_or_else(|error| panic!("skopeo: {error}: apt-get install skopeo (see `make deps`)"));
        assert!(output.status.success(), "skopeo: {}", String::from_utf8_lossy(&output.stderr));
        full
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Fails only if the registry has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
