//! Content digests of memory files.

use std::fs::File;
use std::io;
use std::path::Path;

use blake3::Hasher;

use crate::{FileError, PAGE, Pages, sparse};

const ZEROS: [u8; PAGE as usize] = [0; PAGE as usize];

/// The blake3 digest, in hexadecimal, of a file's pages: of their bytes, then of the list of pages, then of
/// the file's length. Without `pages`, it covers all pages that are not zero, so it does not depend on where
/// the file has holes.
///
/// # Errors
/// When the file cannot be read.
pub fn digest(file: &Path, pages: Option<&Pages>) -> Result<String, FileError> {
    let open = File::open(file).and_then(|open| match pages {
        Some(pages) => digest_pages(&open, pages),
        None => digest_data(&open),
    });
    open.map_err(FileError::reading(file))
}

/// The digest of these pages.
pub(crate) fn digest_pages(file: &File, pages: &Pages) -> io::Result<String> {
    let mut hasher = Hasher::new();
    sparse::each_piece(file, pages, |_, piece| {
        hasher.update(piece);
        io::Result::Ok(())
    })?;
    finish(hasher, file, pages)
}

fn digest_data(file: &File) -> io::Result<String> {
    let mut hasher = Hasher::new();
    let mut pages = Pages::default();
    sparse::each_piece(file, &sparse::data_pages(file)?, |offset, piece| {
        let mut page = offset / PAGE;
        for group in piece.as_chunks().0.chunk_by(|one, next| (*one == ZEROS) == (*next == ZEROS)) {
            let end = page + group.len() as u64;
            if group[0] != ZEROS {
                hasher.update(group.as_flattened());
                pages.insert_run(page..end);
            }
            page = end;
        }
        io::Result::Ok(())
    })?;
    finish(hasher, file, &pages)
}

/// The length of the list is hashed after it, so that page contents cannot be mistaken for a list.
fn finish(mut hasher: Hasher, file: &File, pages: &Pages) -> io::Result<String> {
    let list = pages.to_bytes();
    hasher.update(&list);
    hasher.update(&(list.len() as u64).to_le_bytes());
    hasher.update(&file.metadata()?.len().to_le_bytes());
    Ok(hasher.finalize().to_hex().to_string())
}
