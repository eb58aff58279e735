//! podman's rules for where a copy goes. Pure.
//!
//! | what | the target is a directory | is a file | is not there |
//! |---|---|---|---|
//! | a file | into it | instead of it | as it; with a slash at its end: an error |
//! | a directory | into it | an error | as it |
//! | `directory/.` | what is in it, into it | an error | as it |

use std::ffi::OsString;
use std::path::Path;

use super::CopySource;
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
pub(super) struct Destination {
    /// A directory that must be there.
    pub(super) directory: String,
    pub(super) name: Name,
}

/// Where `what` goes when it is copied to `target`, where `there` stands now.
pub(super) fn resolve(
    source: &CopySource,
    target: &str,
    existing: Option<Kind>,
) -> Result<Destination, CliError> {
    let slash = target.ends_with('/') || target.ends_with("/.");
    match (source.kind, existing) {
        (Kind::Directory, Some(Kind::Directory)) if source.contents => {
            Ok(Destination { directory: target.to_owned(), name: Name::Contents })
        }
        (_, Some(Kind::Directory)) => {
            Ok(Destination { directory: target.to_owned(), name: Name::As(source.name.clone()) })
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
        (Kind::File, _) | (Kind::Directory, None) => in_parent(target),
    }
}

/// In the directory that `target` is in, under its name.
fn in_parent(target: &str) -> Result<Destination, CliError> {
    let path = Path::new(target);
    let name = path.file_name().ok_or_else(|| CliError::usage(format!("{target:?} names no file")))?;
    let parent = path.parent().map(|parent| parent.to_string_lossy().into_owned()).unwrap_or_default();
    let directory = if parent.is_empty() { ".".to_owned() } else { parent };
    Ok(Destination { directory, name: Name::As(name.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(kind: Kind, contents: bool, target: &str, existing: Option<Kind>) -> Option<String> {
        let source = CopySource { kind, name: "src".into(), contents };
        let destination = resolve(&source, target, existing).ok()?;
        let name = match destination.name {
            Name::As(name) => name.to_string_lossy().into_owned(),
            Name::Contents => "*".to_owned(),
        };
        Some(format!("{} {name}", destination.directory))
    }

    #[test]
    fn files_go_where_podman_puts_them() {
        let file = |target, existing| resolved(Kind::File, false, target, existing);
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
        let directory = |contents, target, existing| resolved(Kind::Directory, contents, target, existing);
        assert_eq!(directory(false, "/d", Some(Kind::Directory)).as_deref(), Some("/d src"));
        assert_eq!(directory(true, "/d", Some(Kind::Directory)).as_deref(), Some("/d *"));
        assert_eq!(directory(false, "/d/new", None).as_deref(), Some("/d new"));
        assert_eq!(directory(true, "/d/new/", None).as_deref(), Some("/d new"));
        assert_eq!(directory(true, "/d", Some(Kind::File)), None);
        assert_eq!(directory(false, "/", None), None);
    }
}
