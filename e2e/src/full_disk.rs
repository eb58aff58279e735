//! Disks without space.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A small filesystem of its own. Dropping it unmounts it.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one of `bytes` bytes at a new directory, in which everybody may write.
    #[must_use]
    pub fn mount(dir: PathBuf, bytes: u64) -> Self {
        use rustix::mount::{MountFlags, mount};
        fs::create_dir(&dir).expect("a directory");
        let options = std::ffi::CString::new(format!("size={bytes},mode=1777")).expect("no zero in it");
        mount("none", &dir, "tmpfs", MountFlags::empty(), options.as_c_str()).expect("root mounts");
        Self(dir)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH) {
            eprintln!("cannot unmount {}: {error}", self.0.display());
        }
    }
}

/// A file that takes all space of a disk.
#[derive(Debug)]
pub struct Filler(PathBuf);

impl Filler {
    /// Fills the disk of this directory.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        let path = dir.join("filler");
        let mut file = File::create(&path).expect("created");
        let mut chunk = &[1; 1 << 20][..];
        // The last writes are small, so that not even a small file fits.
        while chunk.len() >= 512 {
            if file.write_all(chunk).is_err() {
                chunk = &chunk[..chunk.len() / 2];
            }
        }
        Self(path)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Frees the space.
    pub fn remove(self) {
        fs::remove_file(self.0).expect("removed");
    }
}
