//! Debian's docker-registry on loopback.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::until;

/// A registry that ends with this value.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    _dir: tempfile::TempDir,
    /// Where it listens: `127.0.0.1:PORT`.
    pub address: String,
}

impl Registry {
    /// Starts an empty one.
    #[must_use]
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let address = format!("127.0.0.1:{port}");
        let config = dir.path().join("config.yml");
        let storage = dir.path().join("data");
        let text = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
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
        let registry = Self { child, _dir: dir, address };
        until("the registry listens", || TcpStream::connect(&registry.address).ok());
        registry
    }

    /// Pushes an OCI layout's `latest` under `name`; its full name.
    pub fn push(&self, layout: &Path, name: &str) -> String {
        let full = format!("{}/{name}:latest", self.address);
        let output = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"])
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
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
