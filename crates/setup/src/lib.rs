//! What a host needs once before its first machine: a kernel, an initramfs
//! with our agent in it, and an answer to "can this machine do it at all".
//!
//! Everything here blocks: a caller inside an async runtime moves it to a
//! blocking thread.

mod cpio;
mod files;
pub mod firecracker;
pub mod initramfs;
pub mod kernel;
pub mod preflight;
pub mod rootfs;

pub use files::FileError;
pub use initramfs::Initramfs;
pub use kernel::Kernel;
