//! `--mount`: the long form of `--volume` and `--tmpfs`.

use std::path::Path;

use mimeo_engine::machine::VolumeSpec;

use crate::error::CliError;

/// A mount of the long form.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mount {
    /// A directory or file of the host.
    Bind(VolumeSpec),
    /// A temporary filesystem, as `--tmpfs` takes it.
    Tmpfs(String),
}

/// What the words of one `--mount` say.
#[derive(Default)]
struct Words<'a> {
    kind: Option<&'a str>,
    source: Option<&'a str>,
    target: Option<&'a str>,
    read_only: bool,
    /// Options of a tmpfs, in the form of `--tmpfs`.
    tmpfs: Vec<String>,
}

/// Parses `type=bind|tmpfs,source=…,target=…[,ro]` and podman's other names of these words.
pub(super) fn parse(text: &str) -> Result<Mount, CliError> {
    let invalid = |reason: &str| CliError::usage(format!("--mount {text:?} {reason}"));
    let words = read_words(text)?;
    let target = words.target.filter(|target| target.starts_with('/'));
    let target = target.ok_or_else(|| invalid("has no absolute target"))?;
    match words.kind {
        Some("bind") => {
            let source = words.source.ok_or_else(|| invalid("has no source"))?;
            if !words.tmpfs.is_empty() {
                return Err(invalid("has options of a tmpfs"));
            }
            let host = std::path::absolute(Path::new(source))
                .map_err(|source| CliError::io("resolve the mount's source", source))?;
            Ok(Mount::Bind(VolumeSpec { host, guest: target.to_owned(), read_only: words.read_only }))
        }
        Some("tmpfs") if words.source.is_none() => {
            let access = words.read_only.then(|| "ro".to_owned());
            let options: Vec<_> = words.tmpfs.into_iter().chain(access).collect();
            Ok(Mount::Tmpfs(format!("{target}:{}", options.join(","))))
        }
        Some("tmpfs") => Err(invalid("has a source: a tmpfs has none")),
        // podman's default.
        Some("volume") | None => {
            Err(invalid("is a named volume, which mimeo does not support: use type=bind or type=tmpfs"))
        }
        Some(_) => Err(invalid("has an unknown type: use bind or tmpfs")),
    }
}

fn read_words(text: &str) -> Result<Words<'_>, CliError> {
    let mut words = Words::default();
    for word in text.split(',').filter(|word| !word.is_empty()) {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match (key, value) {
            ("type", _) => words.kind = Some(value),
            ("source" | "src", _) => words.source = Some(value),
            ("target" | "destination" | "dst" | "dest", _) => words.target = Some(value),
            ("ro" | "readonly", "" | "true") | ("rw", "false") => words.read_only = true,
            ("rw", "" | "true") | ("ro" | "readonly", "false") => words.read_only = false,
            ("tmpfs-size", _) => words.tmpfs.push(format!("size={value}")),
            ("tmpfs-mode", _) => words.tmpfs.push(format!("mode={value}")),
            ("tmpcopyup" | "notmpcopyup", "") => words.tmpfs.push(key.to_owned()),
            // A machine shares no mounts with the host, and labels mean nothing in it.
            ("bind-propagation", "private" | "rprivate")
            | ("relabel" | "consistency", _)
            | ("z" | "Z", "") => {}
            _ => {
                return Err(CliError::usage(format!(
                    "--mount {text:?} has an option that mimeo does not support: {word:?}"
                )));
            }
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_parsed_as_podmans() {
        let bind = |read_only| Mount::Bind(VolumeSpec { host: "/a".into(), guest: "/b".into(), read_only });
        for (text, mount) in [
            ("type=bind,source=/a,target=/b", bind(false)),
            ("type=bind,src=/a,dst=/b,ro", bind(true)),
            ("type=bind,src=/a,destination=/b,readonly=true,bind-propagation=rprivate", bind(true)),
            ("type=bind,src=/a,dest=/b,ro=false,relabel=shared", bind(false)),
            ("type=tmpfs,target=/t", Mount::Tmpfs("/t:".into())),
            (
                "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700,ro",
                Mount::Tmpfs("/t:size=1m,mode=700,ro".into()),
            ),
        ] {
            assert_eq!(parse(text).expect(text), mount, "{text}");
        }
        for bad in [
            "",
            "type=bind,target=/b",
            "type=bind,source=/a",
            "type=bind,source=/a,target=b",
            "type=bind,source=/a,target=/b,tmpfs-size=1m",
            "type=bind,source=/a,target=/b,shiny",
            "type=tmpfs,source=/a,target=/b",
            "type=volume,source=name,target=/b",
            "source=name,target=/b",
            "type=image,source=x,target=/b",
            "type=bind,source=/a,target=/b,bind-propagation=shared",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
