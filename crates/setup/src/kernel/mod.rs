//! Kernels for guests: made once, kept under `$MIMEO_HOME/kernels/<name>/`.
//!
//! ```text
//! kernels/default -> debian-6.1.192-2       the one that machines boot
//! kernels/debian-6.1.192-2/kernel.json      what it is; written last
//!                          vmlinux          ELF, entered through PVH
//!                          bzImage          the fallback for it
//!                          modules/*.ko     uncompressed
//!                          initramfs-*.cpio made from the modules and an agent
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
