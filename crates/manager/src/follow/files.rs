//! A file that is appended to and rotated meanwhile.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::position::{FileId, Position};

/// Bytes of one read.
const CHUNK_BYTES: usize = 64 * 1024;

/// Opens a file's rotations, the oldest first.
type Open = Box<dyn Fn() -> io::Result<Vec<File>> + Send>;

/// A file that is appended to and rotated meanwhile.
pub(crate) struct RotatedFile {
    open: Open,
    /// Where to begin, before the first read.
    from: Option<Position>,
    current: Option<(FileId, File)>,
    at: u64,
    /// The file after the current one, which is read to its end first.
    next: Option<(FileId, File)>,
    gap: bool,
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// The bytes; none if there are no more yet.
    pub(crate) bytes: Vec<u8>,
    /// Where they begin.
    pub(crate) begin: Option<Position>,
    /// Bytes before them are lost.
    pub(crate) gap: bool,
}

impl Chunk {
    /// Where they end.
    pub(crate) fn end(&self) -> Option<Position> {
        self.begin.map(|Position { file, at }| Position { file, at: at + self.bytes.len() as u64 })
    }
}

impl RotatedFile {
    /// The file whose rotations `open` opens, from a place on.
    pub(crate) fn new(
        from: Option<Position>,
        open: impl Fn() -> io::Result<Vec<File>> + Send + 'static,
    ) -> Self {
        Self { open: Box::new(open), from, current: None, at: 0, next: None, gap: false }
    }

    /// Reads the next bytes. All of them are of one file.
    pub(crate) fn read(&mut self) -> io::Result<Chunk> {
        if let Some(from) = self.from.take() {
            self.seek(from)?;
        }
        loop {
            let bytes = self.read_current()?;
            if !bytes.is_empty() {
                let begin = self.position();
                self.at += bytes.len() as u64;
                return Ok(Chunk { bytes, begin, gap: std::mem::take(&mut self.gap) });
            }
            match self.next.take() {
                Some(next) => (self.current, self.at) = (Some(next), 0),
                None => match self.next_file()? {
                    None => return Ok(Chunk { bytes, begin: self.position(), gap: false }),
                    // More may have been appended to the current file just before it was rotated.
                    next => self.next = next,
                },
            }
        }
    }

    fn position(&self) -> Option<Position> {
        self.current.as_ref().map(|(file, _)| Position { file: *file, at: self.at })
    }

    fn read_current(&self) -> io::Result<Vec<u8>> {
        let Some((_, file)) = &self.current else { return Ok(Vec::new()) };
        let mut bytes = vec![0; CHUNK_BYTES];
        let count = file.read_at(&mut bytes, self.at)?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Goes to a place; to the oldest byte if that is lost.
    fn seek(&mut self, from: Position) -> io::Result<()> {
        let found = self.files()?.into_iter().find(|(id, _)| *id == from.file);
        match found {
            Some((id, file)) if file.metadata()?.len() >= from.at => {
                (self.current, self.at) = (Some((id, file)), from.at);
            }
            _ => self.gap = true,
        }
        Ok(())
    }

    /// The file after the current one; the oldest if that was removed, or none was read yet.
    fn next_file(&mut self) -> io::Result<Option<(FileId, File)>> {
        let files = self.files()?;
        let Some((current, _)) = self.current else { return Ok(files.into_iter().next()) };
        let newer = match files.iter().position(|(id, _)| *id == current) {
            Some(at) => at + 1,
            None => {
                self.gap |= !files.is_empty();
                0
            }
        };
        Ok(files.into_iter().nth(newer))
    }

    fn files(&self) -> io::Result<Vec<(FileId, File)>> {
        (self.open)()?.into_iter().map(|file| Ok((FileId::identify(&file)?, file))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn open(dir: PathBuf, from: Option<Position>) -> RotatedFile {
        RotatedFile::new(from, move || {
            let names = ["c", "b", "a"].into_iter().map(|name| File::open(dir.join(name)));
            names
                .filter(|file| !file.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound))
                .collect()
        })
    }

    /// All bytes, whether some were lost before them, and the end.
    fn read(file: &mut RotatedFile) -> (String, bool, Option<Position>) {
        let (mut bytes, mut gap) = (Vec::new(), false);
        loop {
            let chunk = file.read().expect("read");
            if chunk.bytes.is_empty() {
                return (String::from_utf8(bytes).expect("text"), gap, chunk.end());
            }
            gap |= chunk.gap;
            bytes.extend(chunk.bytes);
        }
    }

    #[test]
    fn reading_continues_after_rotations_and_tells_of_losses() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        let append = |text: &str| {
            let mut file = fs::OpenOptions::new().create(true).append(true).open(path("a")).expect("opened");
            io::Write::write_all(&mut file, text.as_bytes()).expect("written");
        };
        let rotate = || {
            fs::rename(path("b"), path("c")).ok();
            fs::rename(path("a"), path("b")).expect("renamed");
        };
        let mut file = open(dir.path().to_owned(), None);
        assert_eq!(read(&mut file), (String::new(), false, None));
        append("one ");
        let (text, gap, place) = read(&mut file);
        assert_eq!((text.as_str(), gap), ("one ", false));
        append("two ");
        rotate();
        append("three ");
        assert_eq!(read(&mut file).0, "two three ");
        let mut resumed = open(dir.path().to_owned(), place);
        let (text, gap, end) = read(&mut resumed);
        assert_eq!((text.as_str(), gap), ("two three ", false));
        for text in ["four ", "five ", "six "] {
            rotate();
            append(text);
        }
        assert_eq!(read(&mut open(dir.path().to_owned(), end)).0, "four five six ");
        let mut lost = open(dir.path().to_owned(), place);
        let (text, gap, _) = read(&mut lost);
        assert_eq!((text.as_str(), gap), ("four five six ", true));
        let beyond = end.map(|end| Position { at: 1000, ..end });
        assert!(read(&mut open(dir.path().to_owned(), beyond)).1, "beyond the end");
    }
}
