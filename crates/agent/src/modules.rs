//! Loads kernel modules from the initramfs. `/modules.eager` and `/modules.lazy`
//! list the files below `/modules`, one a line, in load order. Neither exists
//! when the kernel has everything built in.

use std::collections::HashSet;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::system::finit_module;

use crate::failure::{Context, SystemError};

/// The modules of this guest, and which of them are loaded.
#[derive(Debug, Clone)]
pub(crate) struct Modules {
    initramfs: Arc<OwnedFd>,
    loaded: Arc<Mutex<HashSet<String>>>,
}

impl Modules {
    pub(crate) fn new(initramfs: OwnedFd) -> Self {
        Self { initramfs: Arc::new(initramfs), loaded: Arc::default() }
    }

    /// The files of the modules to load at boot.
    pub(crate) fn eager(&self) -> Result<Vec<String>, SystemError> {
        self.list("modules.eager")
    }

    /// Loads one module file. A concurrent call waits for the first.
    pub(crate) fn load(&self, file: &str) -> Result<(), SystemError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.contains(file) {
            return Ok(());
        }
        let module = openat(
            &*self.initramfs,
            format!("modules/{file}"),
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .context(format!("open the module {file}"))?;
        match finit_module(&module, c"", 0) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(SystemError::new(format!("load the module {file}"), errno)),
        }
        loaded.insert(file.to_owned());
        Ok(())
    }

    /// Loads the lazy modules up to and including `name`: its dependencies precede it.
    /// When no such module is listed, it is built into the kernel, or its use will fail.
    pub(crate) fn load_on_demand(&self, name: &str) -> Result<(), SystemError> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.iter().any(|file| stem(file) == name) {
            return Ok(());
        }
        drop(loaded);
        let lazy = self.list("modules.lazy")?;
        let Some(position) = lazy.iter().position(|file| stem(file) == name) else { return Ok(()) };
        lazy[..=position].iter().try_for_each(|file| self.load(file))
    }

    fn list(&self, name: &str) -> Result<Vec<String>, SystemError> {
        let mut text = String::new();
        match openat(&*self.initramfs, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => {
                std::fs::File::from(file).read_to_string(&mut text).context(format!("read /{name}"))?
            }
            Err(Errno::NOENT) => 0,
            Err(errno) => return Err(SystemError::new(format!("open /{name}"), errno)),
        };
        Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }
}

/// A module's name: its file name without directories and suffix, with `_` for `-`.
fn stem(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split('.').next().unwrap_or(name).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::stem;

    #[test]
    fn a_module_is_known_by_its_name() {
        assert_eq!(stem("kernel/fs/fuse/fuse.ko"), "fuse");
        assert_eq!(stem("virtio-rng.ko"), "virtio_rng");
    }
}
