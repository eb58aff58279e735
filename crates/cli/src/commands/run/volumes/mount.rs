//! `--mount`: the long form of `--volume` and `--tmpfs`.

use super::Mount;
use super::options::Options;
use super::volume::{host_mount, volume_mount};
use crate::error::CliError;

/// What the words of one `--mount` say.
#[derive(Default)]
struct Words<'a> {
    kind: Option<&'a str>,
    source: Option<&'a str>,
    target: Option<&'a str>,
    options: Options,
    /// Options of a tmpfs, in the form of `--tmpfs`.
    tmpfs: Vec<String>,
}

/// Parses `type=bind|volume|tmpfs,source=…,target=…[,ro]` and podman's other names of these words. Without a type it is
/// a volume.
pub(super) fn parse(text: &str) -> Result<Mount, CliError> {
    let invalid = |reason: String| CliError::usage(format!("--mount {text:?} {reason}"));
    let words = read_words(text).map_err(invalid)?;
    let target = words.target.filter(|target| target.starts_with('/'));
    let target = target.ok_or_else(|| invalid("has no absolute target".to_owned()))?;
    let kind = words.kind.unwrap_or("volume");
    if kind != "tmpfs" && !words.tmpfs.is_empty() {
        return Err(invalid("has options of a tmpfs".to_owned()));
    }
    match kind {
        "bind" => {
            let source = words.source.ok_or_else(|| invalid("has no source".to_owned()))?;
            host_mount(source, target, &words.options).map_err(|error| error.in_option(&invalid))
        }
        "volume" => {
            let name = words.source.filter(|source| !source.is_empty());
            volume_mount(name, target, &words.options).map_err(|error| error.in_option(&invalid))
        }
        "tmpfs" if words.source.is_none() => {
            let options: Vec<_> =
                words.tmpfs.iter().map(String::as_str).chain(words.options.words()).collect();
            Ok(Mount::Tmpfs(format!("{target}:{}", options.join(","))))
        }
        "tmpfs" => Err(invalid("has a source: a tmpfs has none".to_owned())),
        _ => Err(invalid("has an unknown type: use bind, volume or tmpfs".to_owned())),
    }
}

fn read_words(text: &str) -> Result<Words<'_>, String> {
    let mut words = Words::default();
    for word in text.split(',').filter(|word| !word.is_empty()) {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match (key, value) {
            ("type", _) => words.kind = Some(value),
            ("source" | "src", _) => words.source = Some(value),
            ("target" | "destination" | "dst" | "dest", _) => words.target = Some(value),
            ("ro" | "readonly", "" | "true") | ("rw", "false") => words.options.add("ro")?,
            ("rw", "" | "true") | ("ro" | "readonly", "false") => words.options.add("rw")?,
            ("tmpfs-size", _) => words.tmpfs.push(format!("size={value}")),
            ("tmpfs-mode", _) => words.tmpfs.push(format!("mode={value}")),
            ("tmpcopyup" | "notmpcopyup", "") => words.tmpfs.push(key.to_owned()),
            // A machine shares no mounts with the host, and labels mean nothing in it.
            ("bind-propagation", "private" | "rprivate")
            | ("relabel" | "consistency", _)
            | ("z" | "Z", "") => {}
            ("bind-propagation", _) => words.options.add(value)?,
            // docker's word.
            ("volume-nocopy", "" | "true") => words.options.add("nocopy")?,
            ("volume-nocopy", "false") => words.options.add("copy")?,
            ("volume-opt" | "volume-driver" | "volume-label", _) => return Err(created_elsewhere(word)),
            (_, "" | "true") => words.options.add(key)?,
            _ => words.options.add(word)?,
        }
    }
    Ok(words)
}

fn created_elsewhere(word: &str) -> String {
    format!("cannot have the option {word:?}: create the volume with it: `mimeo volume create`")
}

#[cfg(test)]
mod tests {
    use mimeo_engine::machine::{VolumeMount, VolumeSpec};

    use super::*;

    #[test]
    fn mounts_are_parsed_as_podmans() {
        let bind = |read_only| Mount::Host(VolumeSpec { host: "/a".into(), guest: "/b".into(), read_only });
        let volume = |name: Option<&str>| VolumeMount {
            name: name.map(|name| name.parse().expect("a name")),
            target: "/b".into(),
            ..VolumeMount::default()
        };
        let mut special = volume(Some("a"));
        (special.read_only, special.no_exec, special.suid, special.dev, special.no_copy) =
            (true, true, true, true, true);
        for (text, mount) in [
            ("type=bind,source=/a,target=/b", bind(false)),
            ("type=bind,src=/a,dst=/b,ro", bind(true)),
            ("type=bind,src=/a,destination=/b,readonly=true,bind-propagation=rprivate", bind(true)),
            ("type=bind,src=/a,dest=/b,ro=false,relabel=shared,nosuid", bind(false)),
            ("type=tmpfs,target=/t", Mount::Tmpfs("/t:".into())),
            (
                "type=tmpfs,dst=/t,tmpfs-size=1m,ro,tmpfs-mode=700,noexec",
                Mount::Tmpfs("/t:size=1m,mode=700,ro,noexec".into()),
            ),
            ("type=volume,source=a,target=/b", Mount::Volume(volume(Some("a")))),
            ("src=a,dst=/b", Mount::Volume(volume(Some("a")))),
            ("type=volume,target=/b", Mount::Volume(volume(None))),
            ("target=/b,source=", Mount::Volume(volume(None))),
            ("type=volume,src=a,dst=/b,rw=false,noexec=true,suid,dev,volume-nocopy", Mount::Volume(special)),
        ] {
            assert_eq!(parse(text).expect(text), mount, "{text}");
        }
    }

    #[test]
    fn other_mounts_are_refused() {
        for bad in [
            "",
            "type=bind,target=/b",
            "type=bind,source=/a",
            "type=bind,source=/a,target=b",
            "type=bind,source=/a,target=/b,tmpfs-size=1m",
            "type=bind,source=/a,target=/b,shiny",
            "type=bind,source=/a,target=/b,noexec",
            "type=tmpfs,source=/a,target=/b",
            "type=image,source=x,target=/b",
            "type=bind,source=/a,target=/b,bind-propagation=shared",
            "type=volume,source=/a,target=/b",
            "type=volume,source=a,target=b",
            "type=volume,source=a",
            "type=volume,source=a,target=/",
            "type=volume,source=a,target=/b,tmpfs-size=1m",
            "type=volume,source=a,target=/b,ro,rw",
            "type=volume,source=a,target=/b,ro=maybe",
            "type=volume,source=a,target=/b,U",
            "type=volume,source=a,target=/b,idmap",
            "type=volume,source=a,target=/b,volume-opt=size=1",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
