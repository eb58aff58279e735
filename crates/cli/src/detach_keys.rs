//! The key sequence that detaches a terminal from a machine, such as `ctrl-p,ctrl-q`.

use std::str::FromStr;

use crate::error::CliError;

/// podman's default.
pub(crate) const DEFAULT: &str = "ctrl-p,ctrl-q";

/// A sequence of keys; an empty one never detaches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DetachKeys(Vec<u8>);

impl FromStr for DetachKeys {
    type Err = CliError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        text.split(',').map(key).collect::<Option<_>>().map(Self).ok_or_else(|| {
            CliError::usage(format!(
                "--detach-keys {text:?} is not a sequence of keys: give single characters or ctrl-KEY, separated by \
                 commas; KEY is a to z or one of @[\\]^_"
            ))
        })
    }
}

fn key(text: &str) -> Option<u8> {
    match (text.as_bytes(), text.strip_prefix("ctrl-").map(str::as_bytes)) {
        ([byte], _) if byte.is_ascii() => Some(*byte),
        (_, Some([byte @ (b'a'..=b'z')])) => Some(byte - b'a' + 1),
        (_, Some([byte @ (b'A'..=b'Z')])) => Some(byte - b'A' + 1),
        (_, Some([byte @ (b'@' | b'[' | b'\\' | b']' | b'^' | b'_')])) => Some(byte - b'@'),
        _ => None,
    }
}

/// Looks for the sequence in a terminal's input.
#[derive(Debug)]
pub(crate) struct Detector {
    keys: DetachKeys,
    /// How many keys of the sequence have been typed.
    matched: usize,
}

impl Detector {
    pub(crate) fn new(keys: DetachKeys) -> Self {
        Self { keys, matched: 0 }
    }

    /// Returns the beginning of the sequence that was held back when the input ended.
    pub(crate) fn into_held(mut self) -> Vec<u8> {
        self.keys.0.truncate(self.matched);
        self.keys.0
    }

    /// Returns the input to pass on, and whether the sequence is complete. The beginning of the sequence is held back
    /// until the next key shows that it was none.
    pub(crate) fn filter(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        let DetachKeys(keys) = &self.keys;
        let mut passed = Vec::with_capacity(input.len());
        if keys.is_empty() {
            return (input.to_vec(), false);
        }
        for byte in input {
            if *byte != keys[self.matched] {
                passed.extend_from_slice(&keys[..self.matched]);
                self.matched = 0;
            }
            if *byte == keys[self.matched] {
                self.matched += 1;
            } else {
                passed.push(*byte);
            }
            if self.matched == keys.len() {
                return (passed, true);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(keys: &str, input: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut detector = Detector::new(keys.parse().expect("keys"));
        let mut all = Vec::new();
        for part in input {
            let (passed, detached) = detector.filter(part);
            all.extend(passed);
            if detached {
                return (all, true);
            }
        }
        (all, false)
    }

    #[test]
    fn the_sequence_detaches_and_is_not_passed_on() {
        assert_eq!(filter(DEFAULT, &[b"ab\x10\x11cd"]), (b"ab".to_vec(), true));
        assert_eq!(filter(DEFAULT, &[b"ab\x10", b"\x11"]), (b"ab".to_vec(), true));
        assert_eq!(filter("x", &[b"abxcd"]), (b"ab".to_vec(), true));
    }

    #[test]
    fn a_beginning_of_the_sequence_is_passed_on() {
        assert_eq!(filter(DEFAULT, &[b"\x10", b"a"]), (b"\x10a".to_vec(), false));
        assert_eq!(filter(DEFAULT, &[b"\x10\x10\x11"]), (b"\x10".to_vec(), true));
        let mut detector = Detector::new(DEFAULT.parse().expect("keys"));
        assert_eq!(detector.filter(b"a\x10"), (b"a".to_vec(), false));
        assert_eq!(detector.into_held(), b"\x10");
        assert_eq!(filter("", &[b"\x10\x11"]), (b"\x10\x11".to_vec(), false));
    }

    #[test]
    fn bad_sequences_are_refused() {
        for bad in ["ctrl-", "ctrl-1", "ctrl-ab", "ab", "a,,b", ",", "ctrl-p ctrl-q"] {
            assert!(bad.parse::<DetachKeys>().is_err(), "{bad}");
        }
        assert_eq!("ctrl-@,ctrl-\\,q".parse::<DetachKeys>().expect("keys"), DetachKeys(vec![0, 28, b'q']));
    }
}
