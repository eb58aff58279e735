//! Evidence of guests that do not answer, written before their VMM is killed.
//!
//! Each dump is a directory, `MIMEO_HOME/hangs/TIME-ID`: what the VMM reports about vCPUs, interrupt controllers and
//! queues, what the host's kernel reports about the VMM's process, and the end of the guest's console. The number and
//! size of dumps are capped, since a guest can cause them at will.

use std::fmt;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use mimeo_vmm::Instance;

use crate::Home;
use crate::cause::chain;
use crate::machine::remove_dir;

/// How many dumps are kept. The oldest is removed for a new one.
const MAX_DUMPS: usize = 16;
/// Largest size of one dump.
const MAX_DUMP_BYTES: usize = 4 << 20;
/// Bytes saved from the end of the console.
const CONSOLE_BYTES: u64 = 64 << 10;
/// Files below /proc/PID of the VMM's process.
const PROCESS_FILES: [&str; 3] = ["status", "maps", "limits"];
/// Files of each of its threads. Some can be read only by root.
const THREAD_FILES: [&str; 6] = ["comm", "wchan", "syscall", "stack", "stat", "status"];
/// Files that show how busy the host is.
const HOST_FILES: [&str; 3] = ["/proc/loadavg", "/proc/pressure/cpu", "/proc/uptime"];

/// The directory with the evidence of a silent guest, if it could be written. Displayed at the end of error messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HangDump(Option<PathBuf>);

impl fmt::Display for HangDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(dir) => write!(f, "; evidence in {}", dir.display()),
            None => Ok(()),
        }
    }
}

/// A guest that does not answer.
#[derive(Debug)]
pub(crate) struct SilentGuest<'a> {
    pub(crate) instance: &'a mut dyn Instance,
    /// The machine's or the snapshot's id.
    pub(crate) id: &'a str,
    /// The console's log.
    pub(crate) console: &'a Path,
}

/// Writes a hang dump; `waited` describes the request that the guest did not answer, and how long mimeo waited. A failure to write it is only
/// logged: the error to report is the guest's silence.
pub(crate) async fn dump(home: &Home, guest: SilentGuest<'_>, waited: &str) -> HangDump {
    let id = guest.id;
    match write(&home.hangs(), guest, waited).await {
        Ok(dir) => {
            tracing::warn!(component = "hang", id, dir = %dir.display(), "the guest does not answer");
            HangDump(Some(dir))
        }
        Err(error) => {
            tracing::warn!(component = "hang", id, error = chain(&error), "cannot write a hang dump");
            HangDump(None)
        }
    }
}

async fn write(hangs: &Path, guest: SilentGuest<'_>, waited: &str) -> io::Result<PathBuf> {
    make_space(hangs)?;
    let mut files = Files { dir: new_directory(hangs, guest.id)?, remaining: MAX_DUMP_BYTES };
    let pid = guest.instance.process().pid;
    files.write("summary", &summary(pid, guest.id, waited))?;
    // Read before the VMM is queried: a query wakes its main loop.
    files.write("process", &process(pid))?;
    files.write("threads-1", &threads(pid))?;
    for report in guest.instance.diagnose().await {
        files.write(&report.name, report.text.as_bytes())?;
    }
    files.write("threads-2", &threads(pid))?;
    files.write("console", &console_end(guest.console))?;
    Ok(files.dir)
}

/// The directory of a dump, and how many bytes may still be written to it.
struct Files {
    dir: PathBuf,
    remaining: usize,
}

impl Files {
    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let bytes = &bytes[..bytes.len().min(self.remaining)];
        self.remaining -= bytes.len();
        fs::write(self.dir.join(format!("{name}.txt")), bytes)
    }
}

/// Removes the oldest dumps, so that one more does not exceed the limit.
fn make_space(hangs: &Path) -> io::Result<()> {
    fs::create_dir_all(hangs)?;
    // Their names start with their times.
    let mut dumps: Vec<_> = fs::read_dir(hangs)?.flatten().map(|entry| entry.path()).collect();
    dumps.sort();
    let excess = (dumps.len() + 1).saturating_sub(MAX_DUMPS);
    dumps.iter().take(excess).try_for_each(|dump| remove_dir(dump))
}

/// Creates an empty directory. Its name is numbered if a machine stops answering twice in one second.
fn new_directory(hangs: &Path, id: &str) -> io::Result<PathBuf> {
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S");
    let names = (0..).map(|nth| match nth {
        0 => format!("{time}-{id}"),
        nth => format!("{time}-{id}-{nth}"),
    });
    for dir in names.map(|name| hangs.join(name)) {
        match fs::create_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| dir),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn summary(pid: u32, id: &str, waited: &str) -> Vec<u8> {
    let mut text = format!(
        "time: {}\nmimeo: {}\nid: {id}\nwaited: {waited}\nvmm: process {pid}\n",
        jiff::Timestamp::now(),
        env!("CARGO_PKG_VERSION"),
    )
    .into_bytes();
    HOST_FILES.iter().for_each(|file| section(&mut text, file, Path::new(file)));
    text
}

fn process(pid: u32) -> Vec<u8> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let mut text = Vec::new();
    section(&mut text, "cmdline", &proc.join("cmdline"));
    PROCESS_FILES.iter().for_each(|file| section(&mut text, file, &proc.join(file)));
    for file in entries(&proc.join("fd")) {
        let (link, number) = (fs::read_link(&file).unwrap_or_default(), name(&file));
        section(&mut text, &format!("fd {number} -> {}", link.display()), &proc.join("fdinfo").join(&number));
    }
    text
}

fn threads(pid: u32) -> Vec<u8> {
    let mut text = Vec::new();
    for task in entries(&Path::new("/proc").join(pid.to_string()).join("task")) {
        let id = name(&task);
        THREAD_FILES.iter().for_each(|file| section(&mut text, &format!("{id} {file}"), &task.join(file)));
    }
    text
}

fn section(text: &mut Vec<u8>, title: &str, file: &Path) {
    text.extend_from_slice(format!("== {title}\n").as_bytes());
    match fs::read(file) {
        Ok(bytes) => text.extend(bytes.iter().map(|&byte| if byte == 0 { b' ' } else { byte })),
        Err(error) => text.extend_from_slice(format!("({error})").as_bytes()),
    }
    if text.last() != Some(&b'\n') {
        text.push(b'\n');
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    all.sort();
    all
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn console_end(console: &Path) -> Vec<u8> {
    let mut end = Vec::new();
    let read = fs::File::open(console).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(CONSOLE_BYTES)))?;
        file.take(CONSOLE_BYTES).read_to_end(&mut end)
    });
    read.err().map_or(end, |error| format!("({error})\n").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_dumps_are_removed() {
        let dir = tempfile::tempdir().expect("made");
        for nth in 0..MAX_DUMPS + 3 {
            fs::create_dir(dir.path().join(format!("{nth:03}-x"))).expect("made");
        }
        make_space(dir.path()).expect("removed");
        let left = entries(dir.path());
        assert_eq!(left.len(), MAX_DUMPS - 1);
        assert_eq!(name(&left[0]), "004-x");
    }

    #[test]
    fn dumps_of_the_same_second_have_distinct_names() {
        let dir = tempfile::tempdir().expect("made");
        let [one, other] = [(); 2].map(|()| new_directory(dir.path(), "abc").expect("made"));
        assert_ne!(one, other);
    }

    #[test]
    fn a_dump_is_truncated_at_its_limit() {
        let dir = tempfile::tempdir().expect("made");
        let mut files = Files { dir: dir.path().to_owned(), remaining: 10 };
        files.write("one", b"1234567").expect("written");
        files.write("two", b"1234567").expect("written");
        assert_eq!(fs::read(dir.path().join("two.txt")).expect("there"), b"123");
    }

    #[test]
    fn a_process_dump_lists_threads_and_descriptors() {
        let text = String::from_utf8_lossy(&threads(std::process::id())).into_owned();
        assert!(text.contains("comm\n") && text.contains("State:"), "{text}");
        let text = String::from_utf8_lossy(&process(std::process::id())).into_owned();
        assert!(text.contains("== fd 0 -> "), "{text}");
    }
}
