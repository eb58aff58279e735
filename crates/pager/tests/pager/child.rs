//! A process with memory to inspect: this program again, with commands on its standard input.
#![expect(unsafe_code, reason = "mapping a file and writing to it have no safe API")]

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use mimeo_pager::{MappingKind, PAGE, Region};
use rustix::mm::{MapFlags, ProtFlags};

const VARIABLE: &str = "MIMEO_PAGER_TEST_CHILD";
const TEST: &str = "child::runs_commands";

/// The process, and its expected memory.
pub(crate) struct Child {
    process: std::process::Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    address: u64,
    pub(crate) mapping_kind: MappingKind,
    pub(crate) memory: Vec<u8>,
}

impl Child {
    /// Maps a file privately; its memory starts as the file's content.
    pub(crate) fn private(file: &Path) -> Self {
        Self::start(
            &format!("private {}", file.display()),
            MappingKind::Private,
            std::fs::read(file).unwrap(),
        )
    }

    /// Maps a memfd of its own.
    pub(crate) fn shared(pages: u64) -> Self {
        Self::start(&format!("memfd {pages}"), MappingKind::Shared, vec![0; (pages * PAGE) as usize])
    }

    /// Maps anonymous memory.
    pub(crate) fn anonymous(pages: u64) -> Self {
        Self::start(&format!("anonymous {pages}"), MappingKind::Shared, vec![0; (pages * PAGE) as usize])
    }

    fn start(kind: &str, mapping_kind: MappingKind, memory: Vec<u8>) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", TEST, "--ignored", "--nocapture"])
            .env(VARIABLE, kind)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut child = Self { process, input, output, address: 0, mapping_kind, memory };
        child.address = child.reply().parse().unwrap();
        child
    }

    /// Its next reply; the test harness's own output is skipped.
    fn reply(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the child has exited");
            if let Some((_, reply)) = line.trim().split_once("child: ") {
                return reply.to_owned();
            }
        }
    }

    fn run(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
        assert_eq!(self.reply(), "done");
    }

    /// Has it change pages, each to new content every time.
    pub(crate) fn write(&mut self, first: u64, count: u64) {
        self.run(&format!("write {first} {count}"));
        let bytes = (first * PAGE) as usize..((first + count) * PAGE) as usize;
        scribble(&mut self.memory[bytes]);
    }

    /// Has it zero pages.
    pub(crate) fn zero(&mut self, first: u64, count: u64) {
        self.run(&format!("zero {first} {count}"));
        self.memory[(first * PAGE) as usize..((first + count) * PAGE) as usize].fill(0);
    }

    /// Has it read pages, which changes none of them.
    pub(crate) fn read(&mut self, first: u64, count: u64) {
        self.run(&format!("read {first} {count}"));
    }

    /// Has the page table drop pages of a shared mapping, as memory pressure does.
    pub(crate) fn forget(&mut self, first: u64, count: u64) {
        self.run(&format!("forget {first} {count}"));
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its memory as two regions, the later one first.
    pub(crate) fn regions(&self) -> Vec<Region> {
        let length = self.memory.len() as u64;
        let first = length / PAGE / 3 * PAGE;
        let region = |offset, length| Region { address: self.address + offset, offset, length };
        vec![region(first, length - first), region(0, first)]
    }

    /// Kills it and waits for its exit.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Changes every page, differently each time and for each page of a run.
fn scribble(bytes: &mut [u8]) {
    for (number, page) in bytes.chunks_mut(PAGE as usize).enumerate() {
        page.iter_mut().zip(1..).for_each(|(byte, index): (&mut u8, usize)| {
            *byte = byte.wrapping_mul(7).wrapping_add((index / 5 + number + 1) as u8);
        });
    }
}

#[test]
#[ignore = "the child process of other tests"]
fn runs_commands() {
    let Ok(kind) = std::env::var(VARIABLE) else { return };
    let (_file, memory) = map(&kind);
    let mut output = std::io::stdout();
    let mut reply = |word: &str| {
        writeln!(output, "child: {word}").unwrap();
        output.flush().unwrap();
    };
    reply(&(memory.as_ptr() as u64).to_string());
    for line in std::io::stdin().lines() {
        run_command(&line.unwrap(), memory);
        reply("done");
    }
}

fn run_command(line: &str, memory: &mut [u8]) {
    let words: Vec<_> = line.split(' ').collect();
    let [first, count] = [words[1], words[2]].map(|word| word.parse::<usize>().unwrap() * PAGE as usize);
    let bytes = &mut memory[first..first + count];
    match words[0] {
        "write" => scribble(bytes),
        "zero" => bytes.fill(0),
        "read" => {
            std::hint::black_box(bytes.iter().map(|byte| usize::from(*byte)).sum::<usize>());
        }
        // SAFETY: the mapping is shared, so its bytes do not change.
        "forget" => unsafe {
            rustix::mm::madvise(bytes.as_mut_ptr().cast(), count, rustix::mm::Advice::LinuxDontNeed).unwrap();
        },
        other => panic!("unknown command {other}"),
    }
}

/// A mapping and its file, which stays open as in a VMM.
fn map(kind: &str) -> (Option<File>, &'static mut [u8]) {
    let (kind, argument) = kind.split_once(' ').unwrap();
    let bytes = |pages: &str| pages.parse::<u64>().unwrap() * PAGE;
    let (file, length, flags) = match kind {
        "private" => {
            let file = OpenOptions::new().read(true).open(argument).unwrap();
            let length = file.metadata().unwrap().len();
            (Some(file), length, MapFlags::PRIVATE)
        }
        "memfd" => {
            let file = rustix::fs::memfd_create("ram", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
            rustix::fs::ftruncate(&file, bytes(argument)).unwrap();
            (Some(file.into()), bytes(argument), MapFlags::SHARED)
        }
        "anonymous" => (None, bytes(argument), MapFlags::PRIVATE),
        other => panic!("unknown kind of memory {other}"),
    };
    let (length, rights) = (length as usize, ProtFlags::READ | ProtFlags::WRITE);
    // SAFETY: new mappings at addresses of the kernel's choice, which stay until the process exits.
    let memory = unsafe {
        let start = match &file {
            Some(file) => rustix::mm::mmap(std::ptr::null_mut(), length, rights, flags, file.as_fd(), 0),
            None => rustix::mm::mmap_anonymous(std::ptr::null_mut(), length, rights, flags),
        };
        std::slice::from_raw_parts_mut(start.unwrap().cast::<u8>(), length)
    };
    (file, memory)
}
