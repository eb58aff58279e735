//! podman's rules for where a copy goes. Pure.
//!
//! | what | the target is a directory | is a file | is not there |
//! |---|---|---|---|
//! | a file | into it | instead of it | as it; with a slash at its end: an error |
//! | a directory | into it | an error | as it |
//! | `directory/.` | what is in it, into it | an error | as it |

use std::ffi::OsString;
use std::path::Path;

use super::What;
use crate::error::CliError;

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

/// What the copy is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    /// This.
    As(OsString),
    /// Nothing: what is in it goes straight into the directory.
    Contents,
}

/// Where a copy goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// A directory that must be there.
    pub(super) directory: String,
    pub(super) name: Name,
}

/// Where `what` goes when it is copied to `target`, where `there` stands now.
pub(super) fn place(what: &What, target: &str, there: Option<Kind>) -> Result<Place, CliError> {
    let slash = target.ends_with('/') || target.ends_with("/.");
    match (what.kind, there) {
        (Kind::Directory, Some(Kind::Directory)) if what.contents => {
            Ok(Place { directory: target.to_owned(), name: Name::Contents })
        }
        (_, Some(Kind::Directory)) => {
            Ok(Place { directory: target.to_owned(), name: Name::As(what.name.clone()) })
        }
        (Kind::Directory, Some(Kind::File)) => {
            Err(CliError::usage(format!("{target:?} must be a directory when a directory is copied")))
        }
        (Kind::File, Some(Kind::File)) if slash => {
            Err(CliError::usage(format!("{target:?} is not a directory")))
        }
        (Kind::File, None) if slash => {
            Err(CliError::usage(format!("{target:?} could not be found: no such directory")))
        }
        (Kind::File, _) | (Kind::Directory, None) => beside(target),
    }
}

/// In the directory that `target` is in, under its name.
fn beside(target: &str) -> Result<Place, CliError> {
    let path = Path::new(target);
    let name = path.file_name().ok_or_else(|| CliError::usage(format!("{target:?} names no file")))?;
    let parent = path.parent().map(|parent| parent.to_string_lossy().into_owned()).unwrap_or_default();
    let directory = if parent.is_empty() { ".".to_owned() } else { parent };
    Ok(Place { directory, name: Name::As(name.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: Kind, contents: bool, target: &str, there: Option<Kind>) -> Option<String> {
        let what = What { kind, name: "src".into(), contents };
        let place = place(&what, target, there).ok()?;
        let name = match place.name {
            Name::As(name) => name.to_string_lossy().into_owned(),
            Name::Contents => "*".to_owned(),
        };
        Some(format!("{} {name}", place.directory))
    }

    #[test]
    fn files_go_where_podman_puts_them() {
        let file = |target, there| told(Kind::File, false, target, there);
        assert_eq!(file("/d", Some(Kind::Directory)).as_deref(), Some("/d src"));
        assert_eq!(file("/d/x", Some(Kind::File)).as_deref(), Some("/d x"));
        assert_eq!(file("/d/x", None).as_deref(), Some("/d x"));
        assert_eq!(file("/x", None).as_deref(), Some("/ x"));
        assert_eq!(file("x", None).as_deref(), Some(". x"));
        assert_eq!(file("/d/x/", None), None);
        assert_eq!(file("/d/x/", Some(Kind::File)), None);
    }

    #[test]
    fn directories_go_where_podman_puts_them() {
        let directory = |contents, target, there| told(Kind::Directory, contents, target, there);
        assert_eq!(directory(false, "/d", Some(Kind::Directory)).as_deref(), Some("/d src"));
        assert_eq!(directory(true, "/d", Some(Kind::Directory)).as_deref(), Some("/d *"));
        assert_eq!(directory(false, "/d/new", None).as_deref(), Some("/d new"));
        assert_eq!(directory(true, "/d/new/", None).as_deref(), Some("/d new"));
        assert_eq!(directory(true, "/d", Some(Kind::File)), None);
        assert_eq!(directory(false, "/", None), None);
    }
}
