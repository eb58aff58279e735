//! `kernel.json`: the content of a kernel's directory. A frozen edge: other
//! versions of mimeo read it, so fields are only ever added, as optional ones.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The version of the directory's layout. A higher one is refused.
pub const FORMAT: u32 = 1;

/// The whole of `kernel.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`] of the program that wrote it.
    pub format: u32,
    /// The name of the directory.
    pub name: String,
    /// What `uname -r` prints in a guest.
    pub release: String,
    /// Where the kernel came from.
    pub origin: Origin,
    /// The file to boot.
    pub image: Image,
    /// The file to boot with a VMM that cannot enter `image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Image>,
    /// The modules beside it; empty if all are built in.
    #[serde(default)]
    pub modules: Modules,
}

/// Where a kernel came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Origin {
    /// A binary package of the distribution.
    Debian {
        /// The versioned package, not the one that depends on it.
        package: String,
        /// The package's version.
        version: String,
    },
    /// Built on this host from a source package.
    Build {
        /// The source package.
        package: String,
        /// The package's version.
        version: String,
        /// SHA-256 of the configuration fragment, hex.
        config_sha256: String,
    },
    /// A file that the user gave.
    File {
        /// The kernel's path when it was set up.
        path: PathBuf,
        /// The modules' directory when the kernel was set up.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        modules: Option<PathBuf>,
    },
}

/// One bootable file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its name in the kernel's directory.
    pub file: String,
    /// How a VMM enters it.
    pub entry: Entry,
    /// SHA-256 of its bytes, hex.
    pub sha256: String,
}

/// How a VMM enters a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Entry {
    /// An uncompressed ELF with the PVH note: no decompression in the guest.
    Pvh,
    /// The Linux boot protocol: the guest unpacks itself.
    BzImage,
}

/// The modules of a kernel, each list in load order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modules {
    /// Loaded by the agent at boot.
    pub eager: Vec<Module>,
    /// Loaded on demand. To load one of them, load all up to and including it:
    /// the dependencies of a module precede it.
    pub lazy: Vec<Module>,
}

/// One module under `modules/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Its file name, such as `virtio_blk.ko`.
    pub file: String,
    /// SHA-256 of its bytes, hex.
    pub sha256: String,
}
