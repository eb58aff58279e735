//! podman's login file: `{"auths": {"<registry>": {"auth": "<base64 of user:password>"}}}`. Written whole or not at all,
//! readable by its owner only; entries and fields of other programs stay.

use std::env;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use crate::commit::{self, FileError};
use crate::credentials::{self, Credentials, CredentialsError};

/// Why a login file was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthFileError {
    /// It is not JSON of the expected form.
    #[error("the login file {} cannot be parsed", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A credential helper keeps the registry's credentials.
    #[error("the login file {} leaves {registry} to a credential helper: use that program", path.display())]
    Helper {
        /// The file.
        path: PathBuf,
        /// The registry.
        registry: String,
    },
    /// There is nothing to remove.
    #[error("not logged into {registry}")]
    NotLoggedIn {
        /// The registry.
        registry: String,
    },
    /// A login file cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The file in which logins are stored.
#[derive(Debug, Clone)]
pub struct AuthFile {
    path: PathBuf,
    /// Only this file is read, because the user named it.
    is_explicit: bool,
}

impl AuthFile {
    /// The given file; without one, podman's.
    pub fn locate(explicit: Option<&Path>) -> Self {
        let named = env::var_os("REGISTRY_AUTH_FILE").filter(|value| !value.is_empty()).map(PathBuf::from);
        match explicit.map(Path::to_owned).or(named) {
            Some(path) => Self { path, is_explicit: true },
            None => Self {
                path: credentials::podman_file(|key| env::var_os(key), credentials::own_uid()),
                is_explicit: false,
            },
        }
    }

    /// The stored credentials of a registry: from this file, then from those that docker and older podman write.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn stored(&self, registry: &str) -> Result<Option<Credentials>, AuthFileError> {
        let file = self.is_explicit.then_some(self.path.as_path());
        Ok(credentials::stored(registry, file)?)
    }

    /// Stores the credentials of a registry.
    ///
    /// # Errors
    /// When the file cannot be parsed or written, or leaves the registry to a credential helper.
    pub fn store(&self, registry: &str, credentials: &Credentials) -> Result<(), AuthFileError> {
        let auth = BASE64_STANDARD.encode(format!("{}:{}", credentials.user, credentials.password));
        self.change(|document| {
            if document.get("credsStore").is_some()
                || document.get("credHelpers").is_some_and(|of| !of[registry].is_null())
            {
                return Err(AuthFileError::Helper { path: self.path.clone(), registry: registry.to_owned() });
            }
            let mut auths = self.take_auths(document)?;
            auths.insert(registry.to_owned(), json!({ "auth": auth }));
            document.insert("auths".to_owned(), auths.into());
            Ok(())
        })
    }

    /// Removes the credentials of a registry.
    ///
    /// # Errors
    /// When there are none, or the file cannot be parsed or written.
    pub fn remove(&self, registry: &str) -> Result<(), AuthFileError> {
        self.change(|document| {
            let mut auths = self.take_auths(document)?;
            let removed = auths.remove(registry);
            document.insert("auths".to_owned(), auths.into());
            removed.map(drop).ok_or_else(|| AuthFileError::NotLoggedIn { registry: registry.to_owned() })
        })
    }

    /// Takes the logins out of the document. A document without them has none.
    fn take_auths(&self, document: &mut Map<String, Value>) -> Result<Map<String, Value>, AuthFileError> {
        match document.remove("auths") {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(auths) => serde_json::from_value(auths).map_err(|source| self.unreadable(source)),
        }
    }

    /// Removes all credentials.
    ///
    /// # Errors
    /// When the file cannot be parsed or written.
    pub fn clear(&self) -> Result<(), AuthFileError> {
        self.change(|document| {
            document.insert("auths".to_owned(), json!({}));
            Ok(())
        })
    }

    /// Changes the document, while no other process of mimeo does.
    fn change(
        &self,
        change: impl FnOnce(&mut Map<String, Value>) -> Result<(), AuthFileError>,
    ) -> Result<(), AuthFileError> {
        let folder =
            self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(FileError::at("create", folder))?;
        let lock = File::open(folder).map_err(FileError::at("open", folder))?;
        lock.lock().map_err(FileError::at("lock", folder))?;
        let mut document = self.read()?;
        change(&mut document)?;
        let text = serde_json::to_vec_pretty(&document).map_err(|source| self.unreadable(source))?;
        let mut file = commit::create_temporary(folder)?;
        file.as_file()
            .set_permissions(Permissions::from_mode(0o600))
            .map_err(FileError::at("protect", &self.path))?;
        file.write_all(&text).map_err(FileError::at("write", &self.path))?;
        Ok(commit::persist(file, &self.path)?)
    }

    fn read(&self) -> Result<Map<String, Value>, AuthFileError> {
        match fs::read(&self.path) {
            Ok(bytes) if bytes.trim_ascii().is_empty() => Ok(Map::new()),
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| self.unreadable(source)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Map::new()),
            Err(error) => Err(FileError::at("read", &self.path)(error).into()),
        }
    }

    fn unreadable(&self, source: serde_json::Error) -> AuthFileError {
        AuthFileError::Unreadable { path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> Credentials {
        Credentials { user: "me".into(), password: "se:cret".into() }
    }

    fn file_in(dir: &tempfile::TempDir) -> AuthFile {
        AuthFile { path: dir.path().join("new/auth.json"), is_explicit: true }
    }

    #[test]
    fn a_login_is_stored_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = file_in(&dir);
        file.store("registry.test:5000", &credentials()).unwrap();
        assert_eq!(file.stored("registry.test:5000").unwrap(), Some(credentials()));
        assert_eq!(file.stored("other.test").unwrap(), None);
        assert_eq!(fs::metadata(&file.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(dir.path().join("new")).unwrap().permissions().mode() & 0o777, 0o700);
        file.remove("registry.test:5000").unwrap();
        assert_eq!(file.stored("registry.test:5000").unwrap(), None);
        assert!(matches!(file.remove("registry.test:5000"), Err(AuthFileError::NotLoggedIn { .. })));
    }

    #[test]
    fn what_others_wrote_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = file_in(&dir);
        fs::create_dir(dir.path().join("new")).unwrap();
        fs::write(
            &file.path,
            r#"{"auths":{"a.test":{"auth":"eDp5"}},"HttpHeaders":{"x":"y"},"credHelpers":{"h.test":"pass"}}"#,
        )
        .unwrap();
        file.store("b.test", &credentials()).unwrap();
        let text = fs::read_to_string(&file.path).unwrap();
        assert!(text.contains("HttpHeaders") && text.contains("a.test"), "{text}");
        assert!(matches!(file.store("h.test", &credentials()), Err(AuthFileError::Helper { .. })));
        file.clear().unwrap();
        assert_eq!(file.stored("a.test").unwrap(), None);
    }

    #[test]
    fn a_file_that_cannot_be_parsed_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = file_in(&dir);
        fs::create_dir(dir.path().join("new")).unwrap();
        fs::write(&file.path, "{").unwrap();
        assert!(matches!(file.store("a.test", &credentials()), Err(AuthFileError::Unreadable { .. })));
        assert_eq!(fs::read_to_string(&file.path).unwrap(), "{");
        assert_eq!(fs::read_dir(dir.path().join("new")).unwrap().count(), 1);
    }

    #[test]
    fn logins_that_are_no_object_are_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = file_in(&dir);
        fs::create_dir(dir.path().join("new")).unwrap();
        for text in [r#"{"auths":[]}"#, r#"{"auths":"a.test"}"#, r#"{"auths":7}"#, "[]"] {
            fs::write(&file.path, text).unwrap();
            assert!(matches!(file.store("a.test", &credentials()), Err(AuthFileError::Unreadable { .. })));
            assert!(matches!(file.remove("a.test"), Err(AuthFileError::Unreadable { .. })));
            assert_eq!(fs::read_to_string(&file.path).unwrap(), text);
        }
        fs::write(&file.path, r#"{"auths":null}"#).unwrap();
        file.store("a.test", &credentials()).unwrap();
        assert_eq!(file.stored("a.test").unwrap(), Some(credentials()));
    }
}
