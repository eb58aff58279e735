//! The address of a database: `sqlite:PATH` or `postgres://…`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The address of a database.
#[derive(Clone, PartialEq, Eq)]
pub enum Address {
    /// A file.
    Sqlite(PathBuf),
    /// A PostgreSQL server, by its URL, which may contain a password.
    Postgres(String),
}

/// Why a text is not the address of a database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the address of a database: write sqlite:PATH or postgres://USER@HOST/DATABASE")]
pub struct AddressError;

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(text.to_owned()));
        }
        let path = text.strip_prefix("sqlite:").ok_or(AddressError)?;
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.contains(['?', '\0']) {
            return Err(AddressError);
        }
        Ok(Self::Sqlite(PathBuf::from(path)))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            // Without the user and the password.
            Self::Postgres(url) => write!(f, "postgres://{}", url.rsplit('@').next().unwrap_or_default()),
        }
    }
}

impl Address {
    /// The file, if it is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }

    /// The URL by which the database is opened.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite://{}?mode=rwc", percent_encoded(path)),
            Self::Postgres(url) => url.clone(),
        }
    }
}

/// Encodes what has a meaning in a URL.
fn percent_encoded(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' => text.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => text.push(char::from(*byte)),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed() {
        let path = |text: &str| Ok(Address::Sqlite(PathBuf::from(text)));
        assert_eq!("sqlite:/a/b.db".parse(), path("/a/b.db"));
        assert_eq!("sqlite:///a/b.db".parse(), path("/a/b.db"));
        assert_eq!("sqlite:b.db".parse(), path("b.db"));
        assert_eq!("postgres://x/y".parse(), Ok(Address::Postgres("postgres://x/y".to_owned())));
        for wrong in ["", "sqlite:", "mysql://x/y", "/a/b.db", "sqlite:/a?mode=ro"] {
            assert_eq!(wrong.parse::<Address>(), Err(AddressError), "{wrong}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let address: Address = "postgres://me:secret@host/db".parse().expect("an address");
        assert_eq!(format!("{address} {address:?}"), "postgres://host/db postgres://host/db");
    }

    #[test]
    fn a_path_is_encoded() {
        let address: Address = "sqlite:/a b/#c.db".parse().expect("an address");
        assert_eq!(address.url(), "sqlite:///a%20b/%23c.db?mode=rwc");
    }
}
