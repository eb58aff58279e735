//! The archive format of an initramfs: cpio "newc".
//! See the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`.

/// An archive under construction. The same entries always give the same bytes:
/// no times, owners or inode numbers of this host are written.
#[derive(Debug, Default)]
pub(super) struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
}

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

impl Cpio {
    pub(super) fn add_directory(&mut self, path: &str) {
        self.append_entry(path, DIRECTORY | 0o755, (0, 0), b"");
    }

    pub(super) fn add_file(&mut self, path: &str, mode: u32, bytes: &[u8]) {
        self.append_entry(path, REGULAR | mode, (0, 0), bytes);
    }

    pub(super) fn add_character_device(&mut self, path: &str, mode: u32, device: (u32, u32)) {
        self.append_entry(path, CHARACTER_DEVICE | mode, device, b"");
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.append_entry("TRAILER!!!", 0, (0, 0), b"");
        self.bytes
    }

    fn append_entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let name_length = path.len() as u32 + 1;
        self.bytes.extend(b"070701");
        let fields = [self.entries, mode, 0, 0, 1, 0, length, 0, 0, device.0, device.1, name_length, 0];
        for field in fields {
            self.bytes.extend(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
