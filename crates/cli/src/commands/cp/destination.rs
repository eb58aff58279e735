//! podman's rules for the destination of a copy. Pure.
//!
//! | source | target is a directory | target is a file | target does not exist |
//! |---|---|---|---|
//! | a file | copied into it | replaces it | copied under its name; an error if it ends with a slash |
//! | a directory | copied into it | an error | copied under its name |
//! | `directory/.` | contents copied into it | an error | copied under its name |

use std::ffi::OsString;
use std::path::Path;

use super::CopySource;
use crate::error::CliError;

/// The kind of the file at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

/// The name of the copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    /// This name.
    As(OsString),
    /// None: the source's contents go directly into the directory.
    Contents,
}

/// Where a copy goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Destination {
    /// An existing directory.
    pub(super) directory: String,
    pub(super) name: Name,
}

/// Where `source` goes when it is copied to `target`; `existing` is what `target` is now.
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

/// The parent directory of `target`, and `target`'s own name.
fn in_parent(target: &str) -> Result<Destination, CliError> {
    let path = Path::new(target);
    let name = path.file_name().ok_or_else(|| CliError::usage(format!("{target:?} does not name a file")))?;
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
