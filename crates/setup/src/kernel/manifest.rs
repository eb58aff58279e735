//! `kernel.json`: what a kernel's directory holds. A frozen edge: other
//! versions of mimeo read it, so fields are only ever added, as optional ones.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The generation of the directory's layout. A higher one is refused.
pub const FORMAT: u32 = 1;

/// The whole of `kernel.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`] of the program that wrote it.
    pub format: u32,
    /// The name of the directory.
    pub name: String,
    /// What `uname -r` answers in a guest.
    pub release: String,
    /// Where the kernel came from.
    pub origin: Origin,
    /// The file to boot.
    pub image: Image,
    /// The file to boot where the VMM cannot enter the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Image>,
    /// The modules that lie beside it; empty where all is built in.
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
    /// Built here from a source package.
    Build {
        /// The source package.
        package: String,
        /// The package's version.
        version: String,
        /// SHA-256 of the configuration fragment, hex.
        config_sha256: String,
    },
    /// A file that a person gave.
    File {
        /// The kernel's path at the time.
        path: PathBuf,
        /// The modules' directory at the time.
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
    /// Loaded by the agent before it answers.
    pub eager: Vec<Module>,
    /// Loaded when something asks. To have one of them, load every line up to
    /// and including it: what a module needs stands before it.
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
