//! One-time host setup before the first machine: a kernel, an initramfs with
//! the agent in it, and checks of whether this host can run machines at all.
//!
//! All functions block: async callers must call them on a blocking thread.

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
