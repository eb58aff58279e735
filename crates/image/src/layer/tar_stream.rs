//! Reads a tar stream entry by entry.
//!
//! Headers are decoded here instead of by a tar library, because extension records must be bounded before they are
//! read into memory, PAX records checked, sparse files kept sparse, and each refusal must name its entry.

use std::collections::VecDeque;
use std::io::Read;

use tar::{EntryType, Header};

use super::entry::{Content, Entry, Kind, Meta, Xattr};
use super::meter::{Budget, Metered};
use super::pax::{self, Pax};
use super::spool::{Draft, Spool};
use super::{LayerProblem, acl, numbers};
use crate::limits::{MAX_EXTENSION, MAX_PATH, MAX_SEGMENTS, MAX_XATTRS};

const BLOCK: u64 = 512;

fn bad_header(detail: &'static str) -> LayerProblem {
    LayerProblem::BadHeader { detail }
}

/// Extension records that precede an entry.
#[derive(Debug, Default)]
struct Extensions {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: Option<Pax>,
}

pub(super) struct TarStream<'a, R> {
    input: Metered<'a, R>,
    spool: &'a mut Spool,
    budget: &'a Budget,
    current: Option<String>,
}

impl<'a, R: Read> TarStream<'a, R> {
    pub(super) fn new(input: Metered<'a, R>, spool: &'a mut Spool, budget: &'a Budget) -> Self {
        Self { input, spool, budget, current: None }
    }

    /// The last entry that was read, to be named in an error.
    pub(super) fn current(&self) -> Option<String> {
        self.current.clone()
    }

    pub(super) fn into_inner(self) -> Metered<'a, R> {
        self.input
    }

    /// Reads all entries up to the end mark or the end of the stream.
    pub(super) fn entries(&mut self) -> Result<Vec<Entry>, LayerProblem> {
        let mut entries = Vec::new();
        let mut extensions = Extensions::default();
        while let Some(header) = self.read_header()? {
            self.budget.charge_entry()?;
            if self.read_extension(&header, &mut extensions)? {
                continue;
            }
            entries.push(self.read_entry(&header, std::mem::take(&mut extensions))?);
        }
        self.current = None;
        Ok(entries)
    }

    fn read_header(&mut self) -> Result<Option<Header>, LayerProblem> {
        let mut header = Header::new_old();
        match self.input.fill(header.as_mut_bytes())? {
            0 => return Ok(None),
            512 => {}
            _ => return Err(LayerProblem::Truncated),
        }
        if header.as_bytes().iter().all(|b| *b == 0) {
            return Ok(None);
        }
        verify_checksum(&header)?;
        Ok(Some(header))
    }

    /// Reads an extension header, which describes the next entry. False if the header is an entry itself.
    fn read_extension(&mut self, header: &Header, extensions: &mut Extensions) -> Result<bool, LayerProblem> {
        match header.entry_type() {
            EntryType::GNULongName => extensions.long_name = Some(self.read_extension_text(header)?),
            EntryType::GNULongLink => extensions.long_link = Some(self.read_extension_text(header)?),
            EntryType::XHeader => extensions.pax = Some(pax::parse(&self.read_extension_data(header)?)?),
            // Comments, as by git archive: a filesystem stores none of them.
            EntryType::XGlobalHeader => drop(self.read_extension_data(header)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn read_extension_text(&mut self, header: &Header) -> Result<Vec<u8>, LayerProblem> {
        let mut bytes = self.read_extension_data(header)?;
        bytes.truncate(bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len()));
        Ok(bytes)
    }

    fn read_extension_data(&mut self, header: &Header) -> Result<Vec<u8>, LayerProblem> {
        let size = numbers::size(&header.as_old().size).ok_or_else(|| bad_header("size"))?;
        if size > MAX_EXTENSION {
            let limit = MAX_EXTENSION as usize;
            return Err(LayerProblem::NameTooLong {
                bytes: usize::try_from(size).unwrap_or(usize::MAX),
                limit,
            });
        }
        let mut bytes = vec![0; size as usize];
        self.read_exact(&mut bytes)?;
        self.skip(padding(size))?;
        Ok(bytes)
    }

    fn read_exact(&mut self, buf: &mut [u8]) -> Result<(), LayerProblem> {
        if self.input.fill(buf)? == buf.len() { Ok(()) } else { Err(LayerProblem::Truncated) }
    }

    fn skip(&mut self, bytes: u64) -> Result<(), LayerProblem> {
        self.read_exact(&mut [0; BLOCK as usize][..bytes as usize])
    }

    fn read_entry(&mut self, header: &Header, extensions: Extensions) -> Result<Entry, LayerProblem> {
        let Extensions { long_name, long_link, pax } = extensions;
        let mut pax = pax.unwrap_or_default();
        let name = pax.sparse.name.take().or(pax.path.take()).or(long_name);
        let name = name.unwrap_or_else(|| header.path_bytes().into_owned());
        self.current = Some(String::from_utf8_lossy(&name).into_owned());
        let path = parse_path(name)?;
        let link = pax.link.take().or(long_link).or_else(|| header.link_name_bytes().map(|l| l.into_owned()));
        let meta = parse_meta(header, &pax)?;
        let xattrs = convert_xattrs(std::mem::take(&mut pax.xattrs))?;
        let kind = self.read_kind(header, &path, link.unwrap_or_default(), &pax)?;
        Ok(Entry { path, kind, meta, xattrs })
    }

    fn read_kind(
        &mut self,
        header: &Header,
        path: &[u8],
        link: Vec<u8>,
        pax: &Pax,
    ) -> Result<Kind, LayerProblem> {
        Ok(match header.entry_type() {
            EntryType::Directory => Kind::Directory,
            // Archives older than ustar mark a directory only by its trailing slash.
            EntryType::Regular if path.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => Kind::File(self.read_regular(header, pax)?),
            EntryType::GNUSparse => Kind::File(self.read_gnu_sparse(header, pax)?),
            EntryType::Symlink => Kind::Symlink(parse_path(link)?),
            EntryType::Link => Kind::HardLink(parse_path(link)?),
            EntryType::Char => parse_device(header).map(|(major, minor)| Kind::Char { major, minor })?,
            EntryType::Block => parse_device(header).map(|(major, minor)| Kind::Block { major, minor })?,
            EntryType::Fifo => Kind::Fifo,
            other => return Err(LayerProblem::UnknownType { kind: char::from(other.as_byte()) }),
        })
    }

    fn read_regular(&mut self, header: &Header, pax: &Pax) -> Result<Content, LayerProblem> {
        let stored = stored_size(header, pax)?;
        if pax.sparse.map_in_data {
            return self.read_pax_sparse(stored, pax);
        }
        if let Some(map) = &pax.sparse.map {
            let segments = parse_segments(map)?;
            return self.spool_segments(stored, real_size(pax)?, &segments);
        }
        self.spool_segments(stored, stored, &[(0, stored)])
    }

    /// GNU tar's sparse format: four segments in the header, more in the following blocks.
    fn read_gnu_sparse(&mut self, header: &Header, pax: &Pax) -> Result<Content, LayerProblem> {
        let gnu = header.as_gnu().ok_or_else(|| bad_header("sparse file"))?;
        let mut segments = Vec::new();
        push_segments(&gnu.sparse, &mut segments)?;
        let mut more = gnu.isextended[0] != 0;
        while more {
            let mut block = tar::GnuExtSparseHeader::new();
            self.read_exact(block.as_mut_bytes())?;
            push_segments(&block.sparse, &mut segments)?;
            more = block.isextended[0] != 0;
        }
        let real = numbers::size(&gnu.realsize).ok_or_else(|| bad_header("sparse file"))?;
        self.spool_segments(stored_size(header, pax)?, real, &segments)
    }

    /// PAX 1.0: the data begins with the map, padded to a block.
    fn read_pax_sparse(&mut self, stored: u64, pax: &Pax) -> Result<Content, LayerProblem> {
        let mut lines = SparseMap { blocks: 0, unread: VecDeque::new() };
        let count = lines.next(self)?;
        if count > MAX_SEGMENTS as u64 {
            return Err(LayerProblem::BadPax { detail: "sparse map" });
        }
        let mut map = Vec::new();
        for _ in 0..count * 2 {
            map.push(lines.next(self)?);
        }
        let data =
            stored.checked_sub(lines.blocks * BLOCK).ok_or(LayerProblem::BadPax { detail: "sparse map" })?;
        self.spool_segments(data, real_size(pax)?, &parse_segments(&map)?)
    }

    /// Spools `stored` bytes of the stream as the segments of a file of `size` bytes.
    fn spool_segments(
        &mut self,
        stored: u64,
        size: u64,
        segments: &[(u64, u64)],
    ) -> Result<Content, LayerProblem> {
        check_segments(stored, size, segments)?;
        // Stored bytes are charged as they are read; holes are charged here.
        self.budget.charge_bytes(size.saturating_sub(stored))?;
        if stored > 0 {
            self.budget.check_fits(stored)?;
        }
        let mut draft = self.spool.begin(size);
        for (offset, length) in segments {
            copy_segment(&mut self.input, &mut draft, *offset, *length)?;
        }
        let content = draft.finish();
        self.skip(padding(stored))?;
        Ok(content)
    }
}

fn copy_segment<R: Read>(
    input: &mut Metered<'_, R>,
    draft: &mut Draft<'_>,
    offset: u64,
    length: u64,
) -> Result<(), LayerProblem> {
    let mut buf = vec![0; Draft::CHUNK.min(usize::try_from(length).unwrap_or(Draft::CHUNK))];
    let mut done = 0;
    while done < length {
        let chunk = usize::try_from(length - done).unwrap_or(usize::MAX).min(buf.len());
        if input.fill(&mut buf[..chunk])? != chunk {
            return Err(LayerProblem::Truncated);
        }
        draft.write(offset + done, &buf[..chunk])?;
        done += chunk as u64;
    }
    Ok(())
}

/// The lines of a version 1.0 sparse map, read block by block.
struct SparseMap {
    blocks: u64,
    unread: VecDeque<u8>,
}

impl SparseMap {
    fn next<R: Read>(&mut self, tar: &mut TarStream<'_, R>) -> Result<u64, LayerProblem> {
        let mut line = Vec::new();
        loop {
            match self.unread.pop_front() {
                Some(b'\n') => return pax::parse_sparse_line(&line),
                Some(byte) if line.len() < 20 => line.push(byte),
                Some(_) => return Err(LayerProblem::BadPax { detail: "sparse map" }),
                None => self.refill(tar)?,
            }
        }
    }

    fn refill<R: Read>(&mut self, tar: &mut TarStream<'_, R>) -> Result<(), LayerProblem> {
        let mut block = [0; BLOCK as usize];
        tar.read_exact(&mut block)?;
        self.blocks += 1;
        self.unread.extend(block);
        Ok(())
    }
}

fn padding(size: u64) -> u64 {
    (BLOCK - size % BLOCK) % BLOCK
}

/// The checksum is the sum of the unsigned bytes; some old writers summed signed bytes.
fn verify_checksum(header: &Header) -> Result<(), LayerProblem> {
    let recorded = numbers::number(&header.as_old().cksum).ok_or_else(|| bad_header("checksum"))?;
    let bytes = header.as_bytes();
    let rest = || bytes[..148].iter().chain(&bytes[156..]);
    let unsigned: i64 = rest().map(|b| i64::from(*b)).sum::<i64>() + 8 * 32;
    let signed: i64 = rest().map(|b| i64::from(b.cast_signed())).sum::<i64>() + 8 * 32;
    if recorded == unsigned || recorded == signed { Ok(()) } else { Err(bad_header("checksum")) }
}

fn parse_path(bytes: Vec<u8>) -> Result<Vec<u8>, LayerProblem> {
    if bytes.len() > MAX_PATH {
        return Err(LayerProblem::NameTooLong { bytes: bytes.len(), limit: MAX_PATH });
    }
    if bytes.contains(&0) {
        return Err(LayerProblem::BadName);
    }
    Ok(bytes)
}

fn parse_meta(header: &Header, pax: &Pax) -> Result<Meta, LayerProblem> {
    let old = header.as_old();
    let mode = numbers::size(&old.mode).ok_or_else(|| bad_header("mode"))?;
    let mtime = numbers::number(&old.mtime).ok_or_else(|| bad_header("mtime"))?;
    Ok(Meta {
        mode: (mode & 0o7777) as u16,
        uid: parse_id(pax.uid, &old.uid, "uid")?,
        gid: parse_id(pax.gid, &old.gid, "gid")?,
        mtime: clamp_time(pax.mtime.unwrap_or((mtime, 0))),
    })
}

fn parse_id(pax: Option<u64>, field: &[u8], detail: &'static str) -> Result<u32, LayerProblem> {
    let id = pax.or_else(|| numbers::size(field)).ok_or_else(|| bad_header(detail))?;
    // The highest id means "leave unchanged" to chown and cannot own a file.
    u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or_else(|| bad_header(detail))
}

/// Clamps a time to ext4's range, 1901 to 2446.
fn clamp_time((seconds, nanos): (i64, u32)) -> (i64, u32) {
    const FIRST: i64 = -(1 << 31);
    const LAST: i64 = (1 << 34) - (1 << 31) - 1;
    (seconds.clamp(FIRST, LAST), nanos)
}

fn parse_device(header: &Header) -> Result<(u32, u32), LayerProblem> {
    let (major, minor) = match (header.as_ustar(), header.as_gnu()) {
        (Some(ustar), _) => (numbers::size(&ustar.dev_major), numbers::size(&ustar.dev_minor)),
        (_, Some(gnu)) => (numbers::size(&gnu.dev_major), numbers::size(&gnu.dev_minor)),
        _ => return Err(bad_header("device")),
    };
    let (major, minor) = major.zip(minor).ok_or_else(|| bad_header("device"))?;
    if major > 0xfff || minor > 0xf_ffff {
        return Err(LayerProblem::Device { major, minor });
    }
    Ok((major as u32, minor as u32))
}

fn stored_size(header: &Header, pax: &Pax) -> Result<u64, LayerProblem> {
    pax.size.or_else(|| numbers::size(&header.as_old().size)).ok_or_else(|| bad_header("size"))
}

fn real_size(pax: &Pax) -> Result<u64, LayerProblem> {
    pax.sparse.real_size.ok_or(LayerProblem::BadPax { detail: "sparse file without a size" })
}

fn parse_segments(map: &[u64]) -> Result<Vec<(u64, u64)>, LayerProblem> {
    if !map.len().is_multiple_of(2) || map.len() / 2 > MAX_SEGMENTS {
        return Err(LayerProblem::BadPax { detail: "sparse map" });
    }
    Ok(map.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

fn push_segments(
    headers: &[tar::GnuSparseHeader],
    segments: &mut Vec<(u64, u64)>,
) -> Result<(), LayerProblem> {
    for header in headers.iter().filter(|h| h.offset[0] != 0 && h.numbytes[0] != 0) {
        let pair = numbers::size(&header.offset).zip(numbers::size(&header.numbytes));
        segments.push(pair.ok_or_else(|| bad_header("sparse file"))?);
    }
    if segments.len() > MAX_SEGMENTS { Err(bad_header("sparse file")) } else { Ok(()) }
}

/// Checks that segments ascend, do not overlap, end within the file and have the stored length in total.
fn check_segments(stored: u64, size: u64, segments: &[(u64, u64)]) -> Result<(), LayerProblem> {
    let mut end = 0;
    let mut sum = 0u64;
    for (offset, length) in segments {
        let stop = offset.checked_add(*length).filter(|stop| *stop <= size && *offset >= end);
        end = stop.ok_or_else(|| bad_header("sparse file"))?;
        sum += length;
    }
    if sum == stored { Ok(()) } else { Err(bad_header("sparse file")) }
}

/// Keeps the attributes that ext4 can store. Namespaces of other systems are dropped, as by podman; so are overlayfs's
/// own attributes, because the guest's overlayfs would act on them.
fn convert_xattrs(declared: Vec<Xattr>) -> Result<Vec<Xattr>, LayerProblem> {
    let mut kept: Vec<Xattr> = Vec::new();
    for (name, value) in declared {
        if !is_storable(&name) {
            continue;
        }
        let value = if name.starts_with("system.posix_acl_") { acl::to_ext4(&value)? } else { value };
        kept.retain(|(other, _)| *other != name);
        kept.push((name, value));
    }
    check_xattrs(&kept)?;
    Ok(kept)
}

fn is_storable(name: &str) -> bool {
    const ACLS: [&str; 2] = ["system.posix_acl_access", "system.posix_acl_default"];
    let spaces = ["user.", "trusted.", "security."];
    let known = spaces.iter().any(|space| name.starts_with(space) && name.len() > space.len());
    let overlay = name.starts_with("trusted.overlay.") || name.starts_with("user.overlay.");
    ACLS.contains(&name) || (known && !overlay && name.len() <= 255)
}

fn check_xattrs(xattrs: &[Xattr]) -> Result<(), LayerProblem> {
    let pad = |n: usize| n.next_multiple_of(4);
    let bytes = xattrs.iter().map(|(name, value)| 16 + pad(name.len()) + pad(value.len())).sum();
    if bytes > MAX_XATTRS {
        return Err(LayerProblem::XattrsTooLarge { bytes, limit: MAX_XATTRS });
    }
    Ok(())
}
