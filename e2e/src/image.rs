//! Test images, made from the host's static busybox.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// Where Debian's busybox-static installs busybox.
const BUSYBOX: &str = "/bin/busybox";
/// The names of the image's links to busybox.
const APPLETS: &str = "sh true false echo cat ls ps sleep id env wget nc httpd ping mount df hostname date touch \
                       rm mkdir stat readlink head tail wc md5sum sha256sum seq kill stty tty yes dd sync grep \
                       trap test cp mv chmod chown ln find sort nslookup ip free uname od tr cut printf mkfifo \
                       nohup setsid top getopt sed awk xargs whoami realpath nproc uptime who udhcpc";

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const UNCOMPRESSED_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image under construction.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    layers: Vec<Layer>,
    config: Value,
    architecture: &'static str,
    packing: Packing,
}

/// The format in which an image's layers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Gzip,
    Uncompressed,
    /// Gzip, with the second half of the last layer missing.
    Truncated,
}

/// A layer: a tar archive under construction.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    bytes: Vec<u8>,
}

impl Layer {
    /// Adds a regular file owned by root.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Self {
        let content = content.as_ref();
        self.entry(EntryType::Regular, path.as_bytes(), mode, 0, None, content)
    }

    /// Adds a regular file with an owner.
    #[must_use]
    pub fn owned(self, path: &str, mode: u32, owner: u64, content: &str) -> Self {
        self.entry(EntryType::Regular, path.as_bytes(), mode, owner, None, content.as_bytes())
    }

    /// Adds a directory.
    #[must_use]
    pub fn dir(self, path: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, path.as_bytes(), mode, 0, None, &[])
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn link(self, path: &str, to: &str) -> Self {
        self.entry(EntryType::Symlink, path.as_bytes(), 0o777, 0, Some(to.as_bytes()), &[])
    }

    /// Adds a hard link.
    #[must_use]
    pub fn hard_link(self, path: &str, to: &str) -> Self {
        self.entry(EntryType::Link, path.as_bytes(), 0o644, 0, Some(to.as_bytes()), &[])
    }

    /// Adds a regular file whose name need not be UTF-8.
    #[must_use]
    pub fn raw_file(self, path: &[u8], content: &str) -> Self {
        self.entry(EntryType::Regular, path, 0o644, 0, None, content.as_bytes())
    }

    /// Adds a directory whose name need not be UTF-8.
    #[must_use]
    pub fn raw_dir(self, path: &[u8]) -> Self {
        self.entry(EntryType::Directory, path, 0o755, 0, None, &[])
    }

    /// Adds a symbolic link whose target need not be UTF-8.
    #[must_use]
    pub fn raw_link(self, path: &str, to: &[u8]) -> Self {
        self.entry(EntryType::Symlink, path.as_bytes(), 0o777, 0, Some(to), &[])
    }

    /// Adds a character device.
    #[must_use]
    pub fn device(mut self, path: &str, major: u32, minor: u32) -> Self {
        let mut header = header(EntryType::Char, path.as_bytes(), 0o666);
        header.set_device_major(major).expect("a GNU header");
        header.set_device_minor(minor).expect("a GNU header");
        self.push(&mut header, &[]);
        self
    }

    /// Adds a sparse file without data.
    #[must_use]
    pub fn sparse_file(mut self, path: &str, bytes: u64) -> Self {
        let mut header = header(EntryType::GNUSparse, path.as_bytes(), 0o644);
        let size = &mut header.as_gnu_mut().expect("a GNU header").realsize;
        // Base 256, the GNU encoding of sizes beyond 8 GiB.
        size[0] = 0x80;
        size[4..].copy_from_slice(&bytes.to_be_bytes());
        self.push(&mut header, &[]);
        self
    }

    fn entry(
        mut self,
        kind: EntryType,
        path: &[u8],
        mode: u32,
        owner: u64,
        to: Option<&[u8]>,
        content: &[u8],
    ) -> Self {
        let mut header = header(kind, path, mode);
        header.set_uid(owner);
        header.set_gid(owner);
        if let Some(to) = to {
            let link = &mut header.as_gnu_mut().expect("a GNU header").linkname;
            link[..to.len()].copy_from_slice(to);
        }
        self.push(&mut header, content);
        self
    }

    fn push(&mut self, header: &mut Header, content: &[u8]) {
        header.set_size(content.len() as u64);
        header.set_cksum();
        let mut builder = Builder::new(Vec::new());
        builder.append(header, content).expect("writing to memory succeeds");
        let bytes = builder.into_inner().expect("writing to memory succeeds");
        // Without the two empty blocks that end an archive.
        self.bytes.extend_from_slice(&bytes[..bytes.len() - 1024]);
    }

    /// The complete archive.
    #[must_use]
    pub fn archive(&self) -> Vec<u8> {
        [&self.bytes[..], &[0; 1024]].concat()
    }
}

impl Image {
    /// An image with these layers, whose command is `sh`.
    #[must_use]
    pub fn new(name: &str, layers: Vec<Layer>) -> Self {
        let config = json!({ "Cmd": ["sh"] });
        Self { name: name.to_owned(), layers, config, architecture: "amd64", packing: Packing::Gzip }
    }

    /// An image with a shell, the usual tools, root and an ordinary user (`app`, 1000).
    #[must_use]
    pub fn busybox(name: &str) -> Self {
        Self::new(name, vec![busybox_layer()])
    }

    /// The tar archive of the busybox image's files, without the end-of-archive blocks.
    #[must_use]
    pub fn busybox_archive() -> Vec<u8> {
        busybox_layer().bytes
    }

    /// Adds a layer on top.
    #[must_use]
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// Sets an OCI configuration key: `Env`, `User`, `WorkingDir`, …
    #[must_use]
    pub fn config(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    /// Sets the CPU architecture.
    #[must_use]
    pub fn architecture(mut self, architecture: &'static str) -> Self {
        self.architecture = architecture;
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Truncates the last layer to its first half, under the digest of that half.
    #[must_use]
    pub fn truncated(mut self) -> Self {
        self.packing = Packing::Truncated;
        self
    }

    /// Writes the layers uncompressed.
    #[must_use]
    pub fn uncompressed(mut self) -> Self {
        self.packing = Packing::Uncompressed;
        self
    }

    /// Writes the image as an OCI layout with the tag `latest`.
    pub fn write_layout(&self, dir: &Path) {
        write_index(dir, self.write_blobs(dir));
    }

    /// Writes the images as one OCI layout, whose tag `latest` is an index of them
    /// by architecture.
    pub fn write_index_layout(images: &[Self], dir: &Path) {
        let entries: Vec<Value> = images
            .iter()
            .map(|image| {
                let mut entry = image.write_blobs(dir);
                entry["platform"] = json!({ "os": "linux", "architecture": image.architecture });
                entry
            })
            .collect();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
        write_index(dir, write_blob(dir, INDEX, &to_bytes(&index)));
    }

    /// Writes the image's blobs; returns the descriptor of its manifest.
    fn write_blobs(&self, dir: &Path) -> Value {
        let last = self.layers.len() - 1;
        let packed = self.layers.iter().enumerate().map(|(n, layer)| {
            let tar = layer.archive();
            match self.packing {
                Packing::Uncompressed => write_blob(dir, UNCOMPRESSED_LAYER, &tar),
                Packing::Truncated if n == last => write_blob(dir, LAYER, first_half(&gzip(&tar))),
                Packing::Truncated | Packing::Gzip => write_blob(dir, LAYER, &gzip(&tar)),
            }
        });
        let layers: Vec<Value> = packed.collect();
        let diff_ids: Vec<String> =
            self.layers.iter().map(|layer| format!("sha256:{}", sha256(&layer.archive()))).collect();
        let config = write_blob(
            dir,
            CONFIG,
            &to_bytes(&json!({
                "architecture": self.architecture,
                "os": "linux",
                "config": self.config,
                "rootfs": { "type": "layers", "diff_ids": diff_ids },
            })),
        );
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        write_blob(dir, MANIFEST, &to_bytes(&manifest))
    }
}

/// Writes a blob; returns its descriptor.
fn write_blob(dir: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let (blobs, digest) = (dir.join("blobs/sha256"), sha256(bytes));
    fs::create_dir_all(&blobs).expect("a directory");
    fs::write(blobs.join(&digest), bytes).expect("written");
    json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() })
}

fn first_half(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len() / 2]
}

fn write_index(dir: &Path, mut entry: Value) {
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest" });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] });
    fs::write(dir.join("index.json"), to_bytes(&index)).expect("written");
    fs::write(dir.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#).expect("written");
}

fn header(kind: EntryType, path: &[u8], mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    // Written unchanged: tar's own setter would sanitize a hostile path.
    let name = &mut header.as_gnu_mut().expect("a GNU header").name;
    name[..path.len()].copy_from_slice(path);
    header
}

fn busybox_layer() -> Layer {
    let busybox = fs::read(BUSYBOX).unwrap_or_else(|error| {
        panic!("{BUSYBOX}: {error}: apt-get install busybox-static (see `make deps`)")
    });
    let mut layer = Layer::default()
        .dir("bin/", 0o755)
        .dir("etc/", 0o755)
        .dir("root/", 0o700)
        .dir("home/", 0o755)
        .dir("home/app/", 0o755)
        .dir("tmp/", 0o1777)
        .file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n")
        .file("etc/group", 0o644, "root:x:0:\napp:x:1000:\nextra:x:2000:app\n")
        .file("bin/busybox", 0o755, busybox);
    for applet in APPLETS.split_whitespace() {
        layer = layer.link(&format!("bin/{applet}"), "busybox");
    }
    layer
}

fn to_bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("JSON of strings and numbers")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("writing to memory succeeds");
    encoder.finish().expect("writing to memory succeeds")
}

/// The SHA-256 of `bytes` in hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
