//! A test image that needs no registry, made of this host's static busybox.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use mimeo_engine::Engine;
use mimeo_image::{ImageName, ImportOptions, Quiet};
use tar::{Builder, EntryType, Header};

use crate::error::CliError;

/// The image's name.
pub(super) const NAME: &str = "localhost/mimeo-sanity:latest";
/// The page that the test's web server returns.
const PAGE: &[u8] = b"mimeo is sane\n";
const PATHS: [&str; 3] = ["/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static"];
/// The type of the ELF program header that names a dynamic loader.
const PT_INTERP: u32 = 3;

/// Imports the image; `None` if this host has no static busybox.
pub(super) fn import(engine: &Engine) -> Result<Option<String>, CliError> {
    let Some(program) = PATHS.into_iter().map(PathBuf::from).find_map(|path| fs::read(path).ok()) else {
        return Ok(None);
    };
    if !is_static(&program) {
        return Ok(None);
    }
    let tar = archive(&program).map_err(|source| CliError::io("pack busybox", source))?;
    let name: ImageName = NAME.parse()?;
    let options = ImportOptions { name: Some(name), ..ImportOptions::default() };
    engine.images()?.import(&tar[..], "busybox".as_ref(), &options, Arc::new(Quiet))?;
    Ok(Some(NAME.to_owned()))
}

fn archive(program: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    let header = |kind, mode, size| {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header
    };
    for directory in ["bin", "www"] {
        tar.append_data(&mut header(EntryType::Directory, 0o755, 0), directory, std::io::empty())?;
    }
    let size = program.len() as u64;
    tar.append_data(&mut header(EntryType::Regular, 0o755, size), "bin/busybox", program)?;
    for applet in ["sh", "httpd", "cat"] {
        tar.append_link(&mut header(EntryType::Symlink, 0o777, 0), format!("bin/{applet}"), "busybox")?;
    }
    tar.append_data(&mut header(EntryType::Regular, 0o644, PAGE.len() as u64), "www/index.html", PAGE)?;
    tar.into_inner()
}

/// Whether a 64-bit ELF program is statically linked.
fn is_static(program: &[u8]) -> bool {
    let number = |offset: usize, size: usize| -> Option<u64> {
        let bytes = program.get(offset..offset + size)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    let headers = || -> Option<bool> {
        let (offset, size, count) =
            (number(32, 8)? as usize, number(54, 2)? as usize, number(56, 2)? as usize);
        let mut kinds = (0..count).map(|index| number(offset + index * size, 4));
        Some(kinds.all(|kind| kind.is_some_and(|kind| kind != u64::from(PT_INTERP))))
    };
    program.starts_with(b"\x7fELF\x02\x01") && headers().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(kinds: &[u32]) -> Vec<u8> {
        let mut elf = vec![0; 64 + kinds.len() * 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = kinds.len() as u8;
        for (index, kind) in kinds.iter().enumerate() {
            elf[64 + index * 56..][..4].copy_from_slice(&kind.to_le_bytes());
        }
        elf
    }

    #[test]
    fn static_programs_have_no_interpreter() {
        assert!(is_static(&elf(&[1, 1, 4])));
        assert!(!is_static(&elf(&[6, 3, 1])));
        assert!(!is_static(b"#!/bin/sh"));
        assert!(!is_static(&elf(&[1])[..60]));
    }
}
