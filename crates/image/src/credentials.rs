//! Registry credentials: the login files of docker and podman, and the credential helpers that they name.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError as Retrieval, DockerCredential};
use oci_client::secrets::RegistryAuth;

use crate::name::ImageName;

/// A user name and password for a registry, which replace those of the login files.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password or token.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl From<Credentials> for RegistryAuth {
    fn from(credentials: Credentials) -> Self {
        Self::Basic(credentials.user, credentials.password)
    }
}

/// Why a login file cannot be used. A missing file, or a file without an entry for the registry, is not an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The file cannot be read.
    #[error("the login file {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file, or the helper that it names, gives no usable credentials.
    #[error("the login file {} gives no credentials for {registry}: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The registry.
        registry: String,
        /// Why. Does not include the helper's output, which may contain a secret.
        reason: &'static str,
    },
}

/// Looks up the registry's credentials in the first login file that has an entry for it.
/// With `file`, only that one is read.
pub(crate) fn lookup(name: &ImageName, file: Option<&Path>) -> Result<RegistryAuth, CredentialsError> {
    let files = file.map_or_else(|| files(|key| env::var_os(key), own_uid()), |file| vec![file.to_owned()]);
    for path in files {
        if let Some(auth) = lookup_in(&path, name)? {
            return Ok(auth);
        }
    }
    Ok(RegistryAuth::Anonymous)
}

/// The stored user name and password of a registry, `host[:port]` or a prefix of its paths. With `file`, only that one
/// is read.
pub(crate) fn stored(registry: &str, file: Option<&Path>) -> Result<Option<Credentials>, CredentialsError> {
    let files = file.map_or_else(|| files(|key| env::var_os(key), own_uid()), |file| vec![file.to_owned()]);
    for path in files {
        if let Some(RegistryAuth::Basic(user, password)) = lookup_keys(&path, registry, prefixes(registry))? {
            return Ok(Some(Credentials { user, password }));
        }
    }
    Ok(None)
}

/// The file that podman stores logins in. An ordinary user without a runtime directory gets a lasting file instead.
pub(crate) fn podman_file(var: impl Fn(&str) -> Option<OsString>, uid: u32) -> PathBuf {
    let runtime = var("XDG_RUNTIME_DIR").filter(|value| !value.is_empty()).map(PathBuf::from);
    let of_session = PathBuf::from(format!("/run/user/{uid}"));
    let folder = match (runtime, uid) {
        (Some(runtime), _) => runtime.join("containers"),
        (None, 0) => PathBuf::from("/run/containers/0"),
        (None, _) if of_session.is_dir() => of_session.join("containers"),
        (None, _) => config_folder(&var).unwrap_or(of_session).join("containers"),
    };
    folder.join("auth.json")
}

fn config_folder(var: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let var = |key| var(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    var("XDG_CONFIG_HOME").or_else(|| var("HOME").map(|home| home.join(".config")))
}

/// The user that mimeo runs as.
pub(crate) fn own_uid() -> u32 {
    rustix::process::getuid().as_raw()
}

/// The login files in podman's order, docker's last. A file named by `REGISTRY_AUTH_FILE` is the only one.
fn files(var: impl Fn(&str) -> Option<OsString>, uid: u32) -> Vec<PathBuf> {
    let podman = podman_file(&var, uid);
    let config = config_folder(&var).map(|folder| folder.join("containers/auth.json"));
    let var = |key| var(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(file) = var("REGISTRY_AUTH_FILE") {
        return vec![file];
    }
    let docker = var("DOCKER_CONFIG").or_else(|| var("HOME").map(|home| home.join(".docker")));
    let config = config.filter(|config| *config != podman);
    [Some(podman), config, docker.map(|dir| dir.join("config.json"))].into_iter().flatten().collect()
}

fn lookup_in(path: &Path, name: &ImageName) -> Result<Option<RegistryAuth>, CredentialsError> {
    lookup_keys(path, name.registry(), keys(name))
}

fn lookup_keys(
    path: &Path,
    registry: &str,
    keys: Vec<String>,
) -> Result<Option<RegistryAuth>, CredentialsError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CredentialsError::Read { path: path.to_owned(), source }),
    };
    for key in keys {
        match docker_credential::get_credential_from_reader(&text[..], &key) {
            Ok(credential) => return Ok(Some(auth(credential))),
            Err(Retrieval::NoCredentialConfigured | Retrieval::HelperFailure { .. }) => {}
            Err(error) => {
                let registry = registry.to_owned();
                return Err(CredentialsError::Unusable {
                    path: path.to_owned(),
                    registry,
                    reason: reason(&error),
                });
            }
        }
    }
    Ok(None)
}

fn auth(credential: DockerCredential) -> RegistryAuth {
    match credential {
        DockerCredential::IdentityToken(token) => RegistryAuth::Bearer(token),
        DockerCredential::UsernamePassword(user, password) => RegistryAuth::Basic(user, password),
    }
}

fn reason(error: &Retrieval) -> &'static str {
    match error {
        Retrieval::HelperCommunicationError => "its credential helper cannot be started",
        Retrieval::MalformedHelperResponse => "its credential helper's answer cannot be read",
        Retrieval::CredentialDecodingError => "its entry is not base64 of user:password",
        Retrieval::CredentialMismatchError => "its entry contradicts itself",
        _ => "it is not a login file",
    }
}

/// The keys under which a login file may list the image, most specific first. Podman's files may name a repository or
/// a prefix of its path; docker's files name Docker Hub by a URL.
fn keys(name: &ImageName) -> Vec<String> {
    prefixes(&format!("{}/{}", name.registry(), name.repository()))
}

fn prefixes(path: &str) -> Vec<String> {
    let mut keys = vec![path.to_owned()];
    let mut path = path;
    while let Some((parent, _)) = path.rsplit_once('/') {
        keys.push(parent.to_owned());
        path = parent;
    }
    if path == "docker.io" {
        keys.extend(["https://index.docker.io/v1/".to_owned(), "index.docker.io".to_owned()]);
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> ImageName {
        "registry.test/team/app".parse().unwrap()
    }

    fn auth_of(text: &str) -> Result<Option<RegistryAuth>, CredentialsError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs::write(&path, text).unwrap();
        lookup_in(&path, &name())
    }

    #[test]
    fn the_narrowest_entry_wins() {
        // user:one and user:two
        let text = r#"{"auths":{"registry.test":{"auth":"dXNlcjpvbmU="},"registry.test/team":{"auth":"dXNlcjp0d28="}}}"#;
        assert_eq!(auth_of(text).unwrap(), Some(RegistryAuth::Basic("user".into(), "two".into())));
    }

    #[test]
    fn entries_of_other_registries_are_ignored() {
        assert_eq!(auth_of(r#"{"auths":{"other.test":{"auth":"dXNlcjpvbmU="}}}"#).unwrap(), None);
        assert!(auth_of(r#"{"auths":{"registry.test":{"auth":"!"}}}"#).is_err());
    }

    #[test]
    fn a_missing_file_gives_no_credentials() {
        assert_eq!(lookup_in(Path::new("/nonexistent/auth.json"), &name()).unwrap(), None);
    }

    #[test]
    fn docker_hub_has_additional_keys() {
        let keys = keys(&"nginx".parse().unwrap());
        assert!(keys.contains(&"https://index.docker.io/v1/".to_owned()));
        assert!(keys.contains(&"docker.io".to_owned()));
    }

    #[test]
    fn an_explicit_file_is_the_only_one() {
        let set = |key: &str| Some(OsString::from(format!("/{key}")));
        assert_eq!(files(set, 7), [PathBuf::from("/REGISTRY_AUTH_FILE")]);
        let home = |key: &str| (key == "HOME").then(|| "/home/me".into());
        let lasting = PathBuf::from("/home/me/.config/containers/auth.json");
        let docker = PathBuf::from("/home/me/.docker/config.json");
        assert_eq!(
            files(home, 0),
            [PathBuf::from("/run/containers/0/auth.json"), lasting.clone(), docker.clone()]
        );
        // No such user has a session.
        assert_eq!(files(home, u32::MAX), [lasting, docker]);
        let runtime = |key: &str| (key == "XDG_RUNTIME_DIR").then(|| "/run/user/7".into());
        assert_eq!(podman_file(runtime, 7), PathBuf::from("/run/user/7/containers/auth.json"));
    }
}
