//! Selects the modules of a guest, in load order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::decompress::DecompressError;
use super::manifest::{Module, Modules};
use super::module_file;
use crate::files::{FileError, IoContext as _, create_dir, read, sha256, sync_dir, write_synced};

/// Without these the agent cannot reach the host, its disks or its network.
/// The console comes first: it carries the guest link.
const EAGER: [&str; 6] =
    ["virtio_mmio", "virtio_console", "virtio_blk", "virtio_net", "virtio_rng", "overlay"];
/// For volumes, for closing the source's connections in its clones, for
/// Firecracker's link and its balloon, and for other image formats. The agent
/// loads all modules up to the one that it needs. The last three are for whole
/// systems, which have no modules of this kernel: FAT, for their EFI system
/// partition and their seed, and the two character sets without which Debian's
/// kernel mounts no FAT.
const LAZY: [&str; 11] = [
    "fuse",
    "tcp_diag",
    "udp_diag",
    "virtiofs",
    "vmw_vsock_virtio_transport",
    "virtio_balloon",
    "erofs",
    "squashfs",
    "nls_cp437",
    "nls_ascii",
    "vfat",
];
/// Hex digits of [`selection`].
const SELECTION_DIGITS: usize = 4;

/// Why a directory of modules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModulesError {
    /// A required module is neither a file nor built in.
    #[error("no module {name} in {}, and it is not built in", dir.display())]
    Missing {
        /// Its name in the kernel.
        name: String,
        /// The directory that was searched.
        dir: PathBuf,
    },
    /// A module's compression is unknown or its content damaged.
    #[error("cannot unpack module {}", path.display())]
    Decompress {
        /// The module.
        path: PathBuf,
        /// The decoder's error.
        source: DecompressError,
    },
    /// A module is not an ELF file.
    #[error("{} is not a kernel module", path.display())]
    NotAModule {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        source: object::read::Error,
    },
    /// Reading or writing failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Copies a guest's modules from a tree such as `/lib/modules/<release>` into
/// `<into>/modules/`, unpacked and without signatures.
pub(super) fn copy(tree: &Path, into: &Path) -> Result<Modules, ModulesError> {
    let mut copier = Copier::new(tree, into.join("modules"))?;
    let modules = Modules { eager: copier.copy_all(&EAGER)?, lazy: copier.copy_optional(&LAZY)? };
    sync_dir(&copier.into)?;
    Ok(modules)
}

/// Identifies the selection of modules. It is part of a kernel's name, so that a kernel with another selection is another
/// kernel.
pub(super) fn selection() -> String {
    let names = [EAGER.as_slice(), LAZY.as_slice()].concat().join(" ");
    sha256(names.as_bytes())[..SELECTION_DIGITS].to_owned()
}

struct Copier<'a> {
    tree: &'a Path,
    into: PathBuf,
    files: BTreeMap<String, PathBuf>,
    /// `None` if the tree does not list its built-in modules.
    built_in: Option<BTreeSet<String>>,
    copied: BTreeSet<String>,
}

impl<'a> Copier<'a> {
    fn new(tree: &'a Path, into: PathBuf) -> Result<Self, ModulesError> {
        create_dir(&into)?;
        let mut files = BTreeMap::new();
        index(tree, &mut files)?;
        Ok(Self { tree, into, files, built_in: built_in(tree), copied: BTreeSet::new() })
    }

    fn copy_all(&mut self, names: &[&str]) -> Result<Vec<Module>, ModulesError> {
        let mut list = Vec::new();
        names.iter().try_for_each(|name| self.copy_with_dependencies(name, &mut list))?;
        Ok(list)
    }

    fn copy_optional(&mut self, names: &[&str]) -> Result<Vec<Module>, ModulesError> {
        let present: Vec<_> = names.iter().copied().filter(|name| self.files.contains_key(*name)).collect();
        self.copy_all(&present)
    }

    /// Depth first, so that the dependencies of a module precede it.
    fn copy_with_dependencies(&mut self, name: &str, list: &mut Vec<Module>) -> Result<(), ModulesError> {
        if !self.copied.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(path) = self.files.get(name).cloned() else { return self.must_be_built_in(name) };
        let bytes = read_decompressed(&path)?;
        let dependencies = module_file::dependencies(&bytes)
            .map_err(|source| ModulesError::NotAModule { path: path.clone(), source })?;
        dependencies.iter().try_for_each(|name| self.copy_with_dependencies(name, list))?;
        list.push(self.write(&path, module_file::without_signature(&bytes))?);
        Ok(())
    }

    fn write(&self, from: &Path, bytes: &[u8]) -> Result<Module, ModulesError> {
        let stem = from.file_name().unwrap_or_default().to_string_lossy();
        let file = format!("{}.ko", stem.split(".ko").next().unwrap_or(&stem));
        write_synced(&self.into.join(&file), bytes)?;
        Ok(Module { file, sha256: sha256(bytes) })
    }

    /// If the tree does not list its built-in modules, the module is assumed to
    /// be one, unless the tree has no modules at all: then it is the wrong directory.
    fn must_be_built_in(&self, name: &str) -> Result<(), ModulesError> {
        let is_built_in = match &self.built_in {
            Some(names) => names.contains(name),
            None => !self.files.is_empty(),
        };
        if is_built_in {
            return Ok(());
        }
        Err(ModulesError::Missing { name: name.to_owned(), dir: self.tree.to_owned() })
    }
}

fn read_decompressed(path: &Path) -> Result<Vec<u8>, ModulesError> {
    module_file::decompress_module(read(path)?)
        .map_err(|source| ModulesError::Decompress { path: path.to_owned(), source })
}

/// Finds every module below a directory. Symlinks are not followed: `build` and
/// `source` in an installed tree lead out of it.
fn index(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<(), FileError> {
    for entry in fs::read_dir(dir).at("list", dir)? {
        let entry = entry.at("list", dir)?;
        let (path, kind) = (entry.path(), entry.file_type().at("examine", dir)?);
        if kind.is_dir() {
            index(&path, files)?;
        } else if let Some(name) = module_file::name(&path).filter(|_| kind.is_file()) {
            files.insert(name, path);
        }
    }
    Ok(())
}

fn built_in(tree: &Path) -> Option<BTreeSet<String>> {
    let text = fs::read_to_string(tree.join("modules.builtin")).ok()?;
    Some(text.lines().filter_map(|line| module_file::name(Path::new(line))).collect())
}
