//! Removes a base.

use std::fs;

use crate::file_error::FileError;
use crate::name::BaseName;
use crate::store::{Store, StoreError, StoreLock};

/// Why a base was not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// Machines use it.
    #[error("base {name} is in use by {}: remove them first", users.join(", "))]
    InUse {
        /// The base.
        name: BaseName,
        /// The machines, by their names.
        users: Vec<String>,
    },
    /// It does not exist.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An operation on a file failed.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Removes a base, also one whose manifest cannot be read. `users` are the machines that use it, by name: take the
    /// lock before you look for them, so that none appears meanwhile.
    ///
    /// # Errors
    /// If it does not exist, is in use, or cannot be removed.
    pub fn remove(&self, lock: StoreLock, name: &BaseName, users: &[String]) -> Result<(), RemoveError> {
        let dir = self.dir(name);
        if !dir.try_exists().map_err(FileError::at("read", &dir))? {
            return Err(StoreError::NotFound { name: name.clone() }.into());
        }
        if !users.is_empty() {
            return Err(RemoveError::InUse { name: name.clone(), users: users.to_owned() });
        }
        let draft = self.create_draft(&lock)?;
        // From here on it is gone; the sweep removes it if this process does not.
        let removed = draft.path().join(name.as_str());
        fs::rename(&dir, &removed).map_err(FileError::at("rename", &dir))?;
        drop(lock);
        self.sync()?;
        Ok(fs::remove_dir_all(&removed).map_err(FileError::at("remove", &removed))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::add::AddOptions;
    use crate::test_images::{TestStore, debian, ext4_image};

    #[test]
    fn a_base_in_use_is_not_removed() {
        let test = TestStore::new();
        let name: BaseName = "debian".parse().expect("a name");
        let file = test.file("disk.raw");
        ext4_image(&debian(), &file);
        test.store.add(&name, &file, &AddOptions::default()).expect("added");
        let remove = |users: &[&str]| {
            let users: Vec<_> = users.iter().map(ToString::to_string).collect();
            test.store.remove(test.store.lock().expect("locked"), &name, &users)
        };
        let refused = remove(&["one", "two"]).expect_err("in use");
        assert_eq!(refused.to_string(), "base debian is in use by one, two: remove them first");
        assert!(test.store.disk(&name).exists());
        remove(&[]).expect("removed");
        assert_eq!(test.leftovers(), Vec::<String>::new());
        let error = remove(&[]).expect_err("gone");
        assert!(matches!(error, RemoveError::Store(StoreError::NotFound { .. })), "{error}");
    }
}
