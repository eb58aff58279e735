//! A strict parser of PAX extended headers: `"<length> <key>=<value>\n"`.

use super::LayerProblem;

/// The PAX records of one entry.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(String, Vec<u8>)>,
    pub(super) sparse: Sparse,
}

/// The three ways GNU tar writes sparse files in PAX records.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Sparse {
    /// Version 1.0: the map precedes the data.
    pub(super) map_in_data: bool,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    /// Versions 0.0 and 0.1: alternating offsets and lengths.
    pub(super) map: Option<Vec<u64>>,
}

const XATTR: &str = "SCHILY.xattr.";

fn bad_pax(detail: &'static str) -> LayerProblem {
    LayerProblem::BadPax { detail }
}

pub(super) fn parse(mut bytes: &[u8]) -> Result<Pax, LayerProblem> {
    let mut pax = Pax::default();
    // Some writers pad the block with zeros.
    while bytes.first().is_some_and(|b| *b != 0) {
        let (key, value, rest) = parse_record(bytes)?;
        pax.set(key, value)?;
        bytes = rest;
    }
    Ok(pax)
}

fn parse_record(bytes: &[u8]) -> Result<(&str, &[u8], &[u8]), LayerProblem> {
    let space = bytes.iter().position(|b| *b == b' ').ok_or_else(|| bad_pax("no length"))?;
    let length = parse_decimal(&bytes[..space]).ok_or_else(|| bad_pax("length"))?;
    let length = usize::try_from(length).map_err(|_| bad_pax("length"))?;
    if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
        return Err(bad_pax("length"));
    }
    let body = &bytes[space + 1..length - 1];
    let equals = body.iter().position(|b| *b == b'=').ok_or_else(|| bad_pax("no '='"))?;
    let key = std::str::from_utf8(&body[..equals]).map_err(|_| bad_pax("key"))?;
    Ok((key, &body[equals + 1..], &bytes[length..]))
}

fn parse_decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

impl Pax {
    fn set(&mut self, key: &str, value: &[u8]) -> Result<(), LayerProblem> {
        match key {
            "path" => self.path = Some(value.to_vec()),
            "linkpath" => self.link = Some(value.to_vec()),
            "size" => self.size = Some(parse_decimal(value).ok_or_else(|| bad_pax("size"))?),
            "uid" => self.uid = Some(parse_decimal(value).ok_or_else(|| bad_pax("uid"))?),
            "gid" => self.gid = Some(parse_decimal(value).ok_or_else(|| bad_pax("gid"))?),
            "mtime" => self.mtime = Some(parse_timestamp(value).ok_or_else(|| bad_pax("mtime"))?),
            _ if key.starts_with(XATTR) => self.xattrs.push((key[XATTR.len()..].to_owned(), value.to_vec())),
            _ if key.starts_with("GNU.sparse.") => self.sparse.set(&key["GNU.sparse.".len()..], value)?,
            _ => {}
        }
        Ok(())
    }
}

impl Sparse {
    fn set(&mut self, key: &str, value: &[u8]) -> Result<(), LayerProblem> {
        let count = || parse_decimal(value).ok_or_else(|| bad_pax("sparse file"));
        match key {
            "major" => self.map_in_data = count()? == 1,
            "name" => self.name = Some(value.to_vec()),
            "realsize" | "size" => self.real_size = Some(count()?),
            "offset" | "numbytes" => self.map.get_or_insert_default().push(count()?),
            "map" => self.map = Some(parse_comma_separated(value).ok_or_else(|| bad_pax("sparse map"))?),
            _ => {}
        }
        Ok(())
    }
}

fn parse_comma_separated(value: &[u8]) -> Option<Vec<u64>> {
    if value.is_empty() {
        return Some(Vec::new());
    }
    value.split(|b| *b == b',').map(parse_decimal).collect()
}

/// Parses a time. `-12.5` is 12.5 seconds before the epoch: second -13 plus half a second.
fn parse_timestamp(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanos: u32 = format!("{fraction:0<9.9}").parse().ok()?;
    if whole.starts_with('-') && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

/// Parses a line of the map of a version 1.0 sparse file: decimal numbers, of which the first is the number of pairs.
pub(super) fn parse_sparse_line(line: &[u8]) -> Result<u64, LayerProblem> {
    parse_decimal(line).ok_or_else(|| bad_pax("sparse map"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_records_are_parsed() {
        let pax =
            parse(b"12 path=a/b\n13 uid=70000\n22 mtime=1700000000.5\n26 SCHILY.xattr.user.a=xy\n").unwrap();
        assert_eq!(pax.path.unwrap(), b"a/b");
        assert_eq!(pax.uid, Some(70000));
        assert_eq!(pax.mtime, Some((1_700_000_000, 500_000_000)));
        assert_eq!(pax.xattrs, [("user.a".to_owned(), b"xy".to_vec())]);
    }

    #[test]
    fn values_may_contain_any_byte() {
        let pax = parse(b"27 SCHILY.xattr.user.a=\0\n=\n").unwrap();
        assert_eq!(pax.xattrs[0].1, b"\0\n=");
    }

    #[test]
    fn bad_records_are_refused() {
        for bytes in
            [&b"x"[..], b"99 path=a\n", b"10 path=a/b\n", b"7 patha\n", b"3 \n", b"9 uid=-1\n", b"8 uid=x\n"]
        {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn times_before_the_epoch_are_parsed() {
        assert_eq!(parse_timestamp(b"-12.5"), Some((-13, 500_000_000)));
        assert_eq!(parse_timestamp(b"-12"), Some((-12, 0)));
        assert_eq!(parse_timestamp(b"1.1234567899"), Some((1, 123_456_789)));
        assert_eq!(parse_timestamp(b"1.x"), None);
    }
}
