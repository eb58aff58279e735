//! Numbers in tar headers: octal text, or base 256 when the first bit is set.

/// Parses a header's numeric field. An empty one is 0, as in all other image readers.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => base256(field),
        _ => octal(field),
    }
}

/// Parses a numeric field that must not be negative.
pub(super) fn size(field: &[u8]) -> Option<u64> {
    number(field).and_then(|n| u64::try_from(n).ok())
}

fn octal(field: &[u8]) -> Option<i64> {
    let text = field.split(|b| *b == 0).next().unwrap_or_default();
    let text = std::str::from_utf8(text).ok()?.trim();
    if text.is_empty() {
        return Some(0);
    }
    i64::from_str_radix(text, 8).ok().filter(|n| *n >= 0)
}

fn base256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let first = i128::from(field[0] & 0x3f) - if negative { 0x40 } else { 0 };
    let wide = field[1..].iter().try_fold(first, |acc, b| acc.checked_mul(256)?.checked_add(i128::from(*b)));
    i64::try_from(wide?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_and_base256_are_parsed() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0"), Some(0));
        assert_eq!(number(b"9\0"), None);
        assert_eq!(number(b"-1\0"), None);
        assert_eq!(number(&[0x80, 0, 0, 1, 0]), Some(256));
        assert_eq!(number(&[0xff, 0xff, 0xff, 0xff]), Some(-1));
        assert_eq!(number(&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(size(&[0xff, 0xff]), None);
    }
}
