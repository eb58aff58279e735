//! The content of a file to pack, with its true length.

use std::fs::{File, Metadata};
use std::io::{self, Read};

/// Magic numbers of filesystems whose files are generated when they are read, so that their size is
/// unknown before: proc, sysfs, cgroup2, debugfs, tracefs, securityfs, configfs.
const GENERATED: [i64; 7] =
    [0x9fa0, 0x6265_6572, 0x6367_7270, 0x6462_6720, 0x7472_6163, 0x7363_6673, 0x6265_6570];
/// Largest generated file, which is held in memory: longer ones (/proc/kcore) have no useful end.
const MAX_GENERATED: u64 = 16 << 20;

/// Returns a file's length and its content. A file that shrinks meanwhile is padded with zeros.
pub(super) fn read(file: File, metadata: &Metadata) -> io::Result<(u64, Box<dyn Read>)> {
    if metadata.len() == 0 || is_generated(&file) {
        let content = read_generated(file)?;
        return Ok((content.len() as u64, Box::new(io::Cursor::new(content))));
    }
    Ok((metadata.len(), Box::new(file.chain(io::repeat(0)).take(metadata.len()))))
}

fn is_generated(file: &File) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|filesystem| GENERATED.contains(&filesystem.f_type))
}

fn read_generated(file: File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(MAX_GENERATED + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_GENERATED {
        return Err(io::Error::other("the kernel generates more than 16 MiB of it"));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_path(path: &str) -> (u64, Vec<u8>) {
        let file = File::open(path).expect("opened");
        let metadata = file.metadata().expect("there");
        let (length, mut content) = read(file, &metadata).expect("read");
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).expect("read");
        (length, bytes)
    }

    #[test]
    fn generated_files_have_their_whole_content() {
        // stat reports 0 bytes for the first and a page for the second.
        for path in ["/proc/version", "/sys/kernel/mm/transparent_hugepage/enabled"] {
            let expected = std::fs::read(path).expect("read");
            assert_eq!(read_path(path), (expected.len() as u64, expected), "{path}");
        }
    }

    #[test]
    fn a_file_without_an_end_is_refused() {
        let endless = File::open("/dev/zero").expect("opened");
        let error = read_generated(endless).expect_err("too long").to_string();
        assert!(error.contains("more than 16 MiB"), "{error}");
    }

    #[test]
    fn an_empty_file_is_empty() {
        let file = tempfile::NamedTempFile::new().expect("made");
        assert_eq!(read_path(file.path().to_str().expect("text")), (0, Vec::new()));
    }
}
