//! What cloud-init makes of user-data.

/// How much of user-data cloud-init searches for a MIME header.
const MIME_SEARCH: usize = 4096;
const MIME: &[u8] = b"mime-version:";
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// How user-data starts, as cloud-init's `INCLUSION_TYPES_MAP` has it. A longer prefix precedes a shorter one.
const PREFIXES: [(&str, UserDataKind); 9] = [
    ("#!", UserDataKind::ShellScript),
    ("#cloud-config-archive", UserDataKind::Archive),
    ("#cloud-config-jsonp", UserDataKind::JsonPatch),
    ("#cloud-config", UserDataKind::CloudConfig),
    ("#cloud-boothook", UserDataKind::BootHook),
    ("#include-once", UserDataKind::IncludeOnce),
    ("#include", UserDataKind::Include),
    ("#part-handler", UserDataKind::PartHandler),
    ("## template: jinja", UserDataKind::Jinja),
];

/// The formats of user-data that cloud-init knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserDataKind {
    /// `#!`: a program that runs at the first boot.
    ShellScript,
    /// `#cloud-config`: YAML.
    CloudConfig,
    /// `#cloud-config-archive`: several parts in YAML.
    Archive,
    /// `#cloud-config-jsonp`: a JSON patch of the cloud-config.
    JsonPatch,
    /// `#cloud-boothook`: a program that runs early at each boot.
    BootHook,
    /// `#include`: addresses of user-data.
    Include,
    /// `#include-once`: addresses of user-data that are read once.
    IncludeOnce,
    /// `#part-handler`: Python that handles parts of other formats.
    PartHandler,
    /// `## template: jinja`: a template of one of the others.
    Jinja,
    /// A gzip stream of one of the others.
    Gzip,
    /// A MIME message, often with several parts.
    Mime,
}

impl UserDataKind {
    /// The format of this user-data, as cloud-init 22.4 detects it; `None` if cloud-init would warn and ignore it.
    #[must_use]
    pub fn detect(user_data: &[u8]) -> Option<Self> {
        if user_data.starts_with(&GZIP) {
            return Some(Self::Gzip);
        }
        let text = std::str::from_utf8(user_data).ok()?;
        let head = &user_data[..user_data.len().min(MIME_SEARCH)];
        if head.to_ascii_lowercase().windows(MIME.len()).any(|window| window == MIME) {
            return Some(Self::Mime);
        }
        let text = text.trim_start().as_bytes();
        let starts_with = |prefix: &str| {
            text.get(..prefix.len()).is_some_and(|it| it.eq_ignore_ascii_case(prefix.as_bytes()))
        };
        PREFIXES.iter().find(|(prefix, _)| starts_with(prefix)).map(|(_, kind)| *kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_detected_by_their_first_characters() {
        for (user_data, kind) in [
            ("#!/bin/sh\ntrue\n", Some(UserDataKind::ShellScript)),
            ("#cloud-config\nusers: []\n", Some(UserDataKind::CloudConfig)),
            ("\n#Cloud-Config\n", Some(UserDataKind::CloudConfig)),
            ("#cloud-config-archive\n", Some(UserDataKind::Archive)),
            ("#include-once\nhttp://192.0.2.1/a", Some(UserDataKind::IncludeOnce)),
            ("#include http://192.0.2.1/a", Some(UserDataKind::Include)),
            ("Content-Type: multipart/mixed\nMIME-Version: 1.0\n\n", Some(UserDataKind::Mime)),
            ("\u{1f}", None),
            ("users: []\n", None),
            ("", None),
        ] {
            assert_eq!(UserDataKind::detect(user_data.as_bytes()), kind, "{user_data:?}");
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_gzip_or_nothing() {
        assert_eq!(UserDataKind::detect(&[0x1f, 0x8b, 8, 0]), Some(UserDataKind::Gzip));
        assert_eq!(UserDataKind::detect(b"#!/bin/sh\necho \xff\n"), None);
    }
}
