//! The contexts: managers' addresses and tokens, in a file that only its user can read.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::target::LOCAL_CONTEXT;
use crate::error::CliError;

/// Only the user may read the file: it has tokens.
const MODE: u32 = 0o600;

/// A manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Its address.
    pub(crate) host: String,
    /// The token for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// The file with the certificates of its authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
}

impl Context {
    /// A manager of which only the address is known.
    pub(crate) fn of_host(host: &str) -> Self {
        Self { host: host.to_owned(), token: None, ca: None }
    }
}

/// The stored contexts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The context in use; absent for this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    pub(crate) contexts: BTreeMap<String, Context>,
}

impl Contexts {
    /// Reads the file. There are no contexts if it does not exist.
    pub(crate) fn load() -> Result<Self, CliError> {
        let Some(file) = file() else { return Ok(Self::default()) };
        match fs::read_to_string(&file) {
            Ok(text) => Self::parse(&text)
                .map_err(|error| CliError::usage(format!("cannot read {}: {error}", file.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(CliError::io(format!("read {}", file.display()), source)),
        }
    }

    /// Parses the content of the file.
    pub(crate) fn parse(text: &str) -> Result<Self, CliError> {
        toml::from_str(text).map_err(|error| CliError::usage(error.to_string().trim().replace('\n', " ")))
    }

    /// Writes the file.
    pub(crate) fn store(&self) -> Result<(), CliError> {
        let file = file().ok_or_else(|| {
            CliError::usage("cannot store contexts: neither XDG_CONFIG_HOME nor HOME is an absolute path")
        })?;
        let failed = |source| CliError::io(format!("write {}", file.display()), source);
        let text = toml::to_string(self)?;
        let directory = file.parent().unwrap_or(&file);
        fs::create_dir_all(directory).map_err(failed)?;
        let mut temporary = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
        temporary.as_file().set_permissions(Permissions::from_mode(MODE)).map_err(failed)?;
        temporary.write_all(text.as_bytes()).map_err(failed)?;
        temporary.as_file().sync_all().map_err(failed)?;
        temporary.persist(&file).map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// The context of this name.
    pub(crate) fn get(&self, name: &str) -> Result<Context, CliError> {
        self.contexts.get(name).cloned().ok_or_else(|| {
            CliError::usage(format!("there is no context {name:?}: `mimeo context ls` lists them"))
        })
    }

    /// The context in use; `None` for this host.
    pub(crate) fn current(&self) -> Result<Option<Context>, CliError> {
        match self.current.as_deref() {
            None | Some(LOCAL_CONTEXT) => Ok(None),
            Some(name) => self.get(name).map(Some),
        }
    }
}

/// The file with the contexts.
fn file() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let directory = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")))?;
    Some(directory.join("mimeo/config.toml"))
}
