//! `--volume`: a directory of the host, a named volume or an anonymous one.

use std::path::Path;

use mimeo_engine::machine::{VolumeMount, VolumeSpec};

use super::Mount;
use super::options::Options;
use crate::error::CliError;
use crate::values::clean_path;

/// Parses `[HOST|NAME:]GUEST[:OPTIONS]`. As podman, a source that begins with `/` or `.` is a path, and any other a
/// name.
pub(super) fn parse(text: &str) -> Result<Mount, CliError> {
    let invalid = |reason: String| CliError::usage(format!("--volume {text:?} {reason}"));
    let parts: Vec<_> = text.split(':').collect();
    let (source, target, words) = match parts[..] {
        [target] => (None, target, None),
        [source, target] => (Some(source), target, None),
        [source, target, words] => (Some(source), target, Some(words)),
        _ => return Err(invalid("is not [HOST|NAME:]GUEST[:OPTIONS]".to_owned())),
    };
    if source == Some("") {
        return Err(invalid("names neither a directory of the host nor a volume".to_owned()));
    }
    if !target.starts_with('/') {
        return Err(invalid(format!(
            "has no absolute path in the container: {target:?} does not begin with /"
        )));
    }
    let mut options = Options::default();
    words
        .into_iter()
        .flat_map(|words| words.split(','))
        .try_for_each(|word| options.add(word))
        .map_err(invalid)?;
    mount(source, target, &options).map_err(|error| error.in_option(&invalid))
}

/// Why a source cannot be mounted.
#[derive(Debug)]
pub(super) enum SourceError {
    /// What is wrong with the option's text.
    Invalid(String),
    /// Another failure.
    Other(CliError),
}

impl SourceError {
    /// The error, with the option's text.
    pub(super) fn in_option(self, invalid: &dyn Fn(String) -> CliError) -> CliError {
        match self {
            Self::Invalid(reason) => invalid(reason),
            Self::Other(error) => error,
        }
    }
}

fn mount(source: Option<&str>, target: &str, options: &Options) -> Result<Mount, SourceError> {
    match source {
        Some(host) if host.starts_with(['/', '.']) => host_mount(host, target, options),
        _ => volume_mount(source, target, options),
    }
}

/// A directory or file of the host.
pub(super) fn host_mount(host: &str, target: &str, options: &Options) -> Result<Mount, SourceError> {
    let host = std::path::absolute(Path::new(host))
        .map_err(|source| SourceError::Other(CliError::io("resolve the volume's path", source)))?;
    let mut volume = VolumeSpec { host, guest: clean_path(target), read_only: false };
    options.apply_to_host(&mut volume).map_err(SourceError::Invalid)?;
    Ok(Mount::Host(volume))
}

/// A named volume, or an anonymous one.
pub(super) fn volume_mount(
    name: Option<&str>,
    target: &str,
    options: &Options,
) -> Result<Mount, SourceError> {
    let name = name.map(str::parse).transpose();
    let name = name.map_err(|error| {
        SourceError::Invalid(format!("names no volume: {error}; a directory of the host begins with / or ."))
    })?;
    let target = clean_path(target);
    if target == "/" {
        return Err(SourceError::Invalid("cannot replace the container's root".to_owned()));
    }
    let mut volume = VolumeMount { name, target, ..VolumeMount::default() };
    options.apply_to_volume(&mut volume);
    Ok(Mount::Volume(volume))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, target: &str) -> VolumeMount {
        VolumeMount { name: name.parse().ok(), target: target.to_owned(), ..VolumeMount::default() }
    }

    #[test]
    fn volumes_are_parsed_as_podmans() {
        let host = |host: &Path, read_only| {
            Mount::Host(VolumeSpec { host: host.to_owned(), guest: "/b".into(), read_only })
        };
        let here = std::env::current_dir().expect("a directory");
        for (text, mount) in [
            ("/a:/b:ro", host(Path::new("/a"), true)),
            ("/a:/b", host(Path::new("/a"), false)),
            ("./a:/b:z,nosuid", host(&here.join("a"), false)),
            ("data:/b", Mount::Volume(named("data", "/b"))),
            (
                "a.b_c-1:/b:ro,noexec",
                Mount::Volume(VolumeMount { read_only: true, no_exec: true, ..named("a.b_c-1", "/b") }),
            ),
            ("//b/x/../", Mount::Volume(VolumeMount { name: None, ..named("x", "/b") })),
        ] {
            assert_eq!(parse(text).expect(text), mount, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in [
            "",
            "name",
            ".",
            "/a:",
            ":/b",
            "/a:b",
            "name:b",
            "/a:/b:shiny",
            "/a:/b:",
            "data:/b:",
            "/a:/b:ro:x",
            "-x:/b",
            "a/b:/b",
            "a b:/b",
            "data:/",
            "data://",
            "data:/x/..",
            "/",
            "/b:ro",
            "/a:/b:noexec",
            "data:/b:U",
            "data:/b:ro,rw",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let error = parse("src/app:/b").expect_err("refused").to_string();
        assert!(error.contains("begins with / or ."), "{error}");
    }
}
