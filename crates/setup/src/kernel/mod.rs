//! Kernels for guests, each set up once, below `$MIMEO_HOME/kernels/<name>/`.
//!
//! ```text
//! kernels/default -> debian-6.1.192-2-m8377  the kernel that machines boot
//! kernels/debian-6.1.192-2-m8377/            its name ends with the selection of modules
//!     kernel.json                            the manifest; written last
//!     vmlinux                                ELF, entered through PVH
//!     bzImage                                the fallback for vmlinux
//!     modules/*.ko                           uncompressed
//!     initramfs-*.cpio                       built from the modules and an agent
//! ```

mod apt;
mod build;
mod bzimage;
mod command_line;
mod deb;
mod debian;
mod decompress;
mod elf;
mod file;
mod image;
mod load;
mod manifest;
mod module_file;
mod modules;
mod set_up;
mod store;

pub use apt::AptError;
pub use build::{BuildError, MakeError, Tool};
pub use bzimage::BzImageError;
pub use command_line::command_line;
pub use deb::DebError;
pub use debian::DebianError;
pub use decompress::DecompressError;
pub use elf::ElfError;
pub use file::FileKernelError;
pub use image::ImageError;
pub use load::{Kernel, LoadError};
pub use manifest::{Entry, FORMAT, Image, Manifest, Module, Modules, Origin};
pub use modules::ModulesError;
pub use set_up::{SetUpError, Source, Step, set_up};
