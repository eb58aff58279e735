//! Paths in a container, and modes of files.

use crate::http::query::Query;
use crate::http::{ApiError, Result};

/// The kernel's limit, with the zero byte at the end.
const PATH_MAX: usize = 4096;

/// Takes `path`.
pub(super) fn take_path(query: &mut Query) -> Result<String> {
    let path = query.take("path")?.ok_or_else(|| ApiError::invalid("the parameter \"path\" is missing"))?;
    check(&path)?;
    Ok(path)
}

/// Refuses a path that names no file of a container, or that could be meant to leave it.
pub(super) fn check(path: &str) -> Result<()> {
    let problem = match path {
        _ if !path.starts_with('/') => "it is not absolute",
        _ if path.len() >= PATH_MAX => "it is longer than 4095 bytes",
        _ if path.contains('\0') => "it contains a zero byte",
        _ if path.split('/').any(|part| part == "..") => "it contains ..",
        _ => return Ok(()),
    };
    let shown: String = path.chars().take(100).collect();
    Err(ApiError::new(422, "invalid-path", format!("cannot use the path {shown:?}: {problem}")))
}

/// Parses permission bits, an octal number.
pub(super) fn mode(text: &str) -> Result<u32> {
    match u32::from_str_radix(text, 8) {
        Ok(mode @ ..=0o7777) if !text.starts_with('+') => Ok(mode),
        _ => {
            Err(ApiError::new(422, "invalid-field", format!("mode: {text:?} is no octal number up to 7777")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_trick_are_refused() {
        let long = format!("/{}", "a/".repeat(2048));
        for bad in ["", "a", "./a", "/..", "/a/../b", "/a/..", "/a\0b", &long] {
            let error = check(bad).expect_err(bad);
            assert_eq!((error.problem().status, &*error.problem().code), (422, "invalid-path"));
        }
        for good in ["/", "/a", "/a/", "//a", "/a/./b", "/...", "/a..b", "/ä"] {
            assert!(check(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_mode_is_octal() {
        assert_eq!((mode("0644").ok(), mode("7777").ok()), (Some(0o644), Some(0o7777)));
        for bad in ["", "8", "10000", "-1", "+7", "rw"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
    }
}
