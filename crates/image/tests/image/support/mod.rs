//! Builds test images, and checks the resulting filesystems with e2fsprogs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use mimeo_image::{Digest, Event, Image, Progress, PullError, PullOptions, Store};
use serde_json::{Value, json};
use tar::{EntryType, Header};

/// A store in its own temporary folder.
pub(crate) struct Home {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Store,
}

impl Home {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("images")).unwrap();
        Self { dir, store }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) async fn pull(&self, source: &str) -> Result<Image, PullError> {
        self.pull_with(source, &PullOptions::default()).await
    }

    pub(crate) async fn pull_with(&self, source: &str, options: &PullOptions) -> Result<Image, PullError> {
        self.store.pull(&source.parse().unwrap(), options, Arc::new(mimeo_image::Quiet)).await
    }

    /// Pulls an image of these uncompressed layers.
    pub(crate) async fn pull_layers(&self, layers: &[Vec<u8>]) -> Result<Image, PullError> {
        let packed: Vec<_> = layers.iter().map(|tar| (tar.clone(), gzip(tar))).collect();
        self.pull_packed(&packed, &PullOptions::default()).await
    }

    /// Pulls an image of layers, each given uncompressed and compressed.
    pub(crate) async fn pull_packed(
        &self,
        layers: &[(Vec<u8>, Vec<u8>)],
        options: &PullOptions,
    ) -> Result<Image, PullError> {
        let folder = tempfile::tempdir_in(self.dir.path()).unwrap();
        let image = TestImage::from_layers(layers, "amd64");
        image.write_layout(folder.path(), "v1");
        self.pull_with(&format!("oci:{}", folder.path().display()), options).await
    }
}

/// Collects a pull's events.
#[derive(Default)]
pub(crate) struct Events(pub(crate) Mutex<Vec<Event>>);

impl Progress for Events {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// Builds a tar file.
pub(crate) struct Tar(pub(crate) tar::Builder<Vec<u8>>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    pub(crate) fn add(
        mut self,
        path: &str,
        kind: EntryType,
        data: &[u8],
        change: impl Fn(&mut Header),
    ) -> Self {
        let mut header = header(path, kind, data.len() as u64);
        change(&mut header);
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    pub(crate) fn file(self, path: &str, data: &[u8]) -> Self {
        self.add(path, EntryType::Regular, data, |_| {})
    }

    pub(crate) fn dir(self, path: &str) -> Self {
        self.add(path, EntryType::Directory, b"", |header| header.set_mode(0o755))
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.add(path, EntryType::Symlink, b"", |header| header.set_link_name_literal(target).unwrap())
    }

    pub(crate) fn link(self, path: &str, target: &str) -> Self {
        self.add(path, EntryType::Link, b"", |header| header.set_link_name_literal(target).unwrap())
    }

    pub(crate) fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// Writes the name unchanged, because the tar crate refuses hostile names.
pub(crate) fn header(path: &str, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header
}

/// An image's documents and blobs.
pub(crate) struct TestImage {
    pub(crate) blobs: Vec<Vec<u8>>,
    pub(crate) manifest: Vec<u8>,
}

impl TestImage {
    pub(crate) fn from_layers(layers: &[(Vec<u8>, Vec<u8>)], architecture: &str) -> Self {
        let diff_ids: Vec<String> =
            layers.iter().map(|(plain, _)| Digest::compute(plain).to_string()).collect();
        let packed: Vec<Vec<u8>> = layers.iter().map(|(_, packed)| packed.clone()).collect();
        Self::with_diff_ids(packed, &diff_ids, architecture)
    }

    pub(crate) fn with_diff_ids(packed: Vec<Vec<u8>>, diff_ids: &[String], architecture: &str) -> Self {
        let config = json!({
            "created": "2024-05-01T10:00:00Z", "architecture": architecture, "os": "linux",
            "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"], "WorkingDir": "/srv", "User": "www",
                "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT"},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = serde_json::to_vec(&config).unwrap();
        let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": packed.iter().map(|blob| descriptor(layer, blob)).collect::<Vec<_>>(),
        });
        let mut blobs = packed;
        blobs.push(config);
        Self { blobs, manifest: serde_json::to_vec(&manifest).unwrap() }
    }

    /// Changes the configuration, which is the last blob.
    pub(crate) fn change_config(&mut self, change: impl Fn(&mut Value)) {
        let mut config: Value = serde_json::from_slice(&self.blobs.pop().unwrap()).unwrap();
        change(&mut config);
        let bytes = serde_json::to_vec(&config).unwrap();
        let mut manifest: Value = serde_json::from_slice(&self.manifest).unwrap();
        manifest["config"] = descriptor("application/vnd.oci.image.config.v1+json", &bytes);
        self.manifest = serde_json::to_vec(&manifest).unwrap();
        self.blobs.push(bytes);
    }

    pub(crate) fn write_layout(&self, folder: &Path, tag: &str) {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        for blob in self.blobs.iter().chain([&self.manifest]) {
            fs::write(blobs.join(Digest::compute(blob).hex()), blob).unwrap();
        }
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &self.manifest);
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        fs::write(folder.join("index.json"), index.to_string()).unwrap();
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }
}

pub(crate) fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": Digest::compute(bytes).to_string(), "size": bytes.len()})
}

/// Fails unless the filesystem is clean.
pub(crate) fn fsck(image: &Path) {
    let out = Command::new("e2fsck")
        .args(["-fn"])
        .arg(image)
        .output()
        .expect("e2fsck (package e2fsprogs) is needed");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "e2fsck: {text}\n{}", String::from_utf8_lossy(&out.stderr));
}

/// The output of one debugfs command.
pub(crate) fn debugfs(image: &Path, command: &str) -> String {
    let out = Command::new("debugfs").args(["-R", command]).arg(image).output().expect("debugfs is needed");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

pub(crate) fn read(image: &Path, path: &str) -> Vec<u8> {
    ext4_view::Ext4::load_from_path(image).unwrap().read(path).unwrap()
}

pub(crate) fn exists(image: &Path, path: &str) -> bool {
    ext4_view::Ext4::load_from_path(image).unwrap().exists(path).unwrap()
}

/// An error and all of its causes, as the command line prints it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
