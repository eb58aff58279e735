//! A real QEMU whose firmware is the guest: captures equal what QEMU itself reports as guest memory.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use mimeo_pager::{Capture, MappingKind, PAGE, Pages, Region, changed_pages, flatten};
use serde_json::{Value, json};

const BYTES: u64 = 64 << 20;
/// The range between these is not RAM.
const LOW_END: usize = 640 << 10;
const HIGH_START: usize = 1 << 20;
const TIMEOUT: Duration = Duration::from_secs(30);

#[test]
fn a_memfd_is_captured_whole() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    let mut qemu = Qemu::start("memory-backend-memfd,share=on", "memfd:");
    qemu.capture(MappingKind::Shared, &file);
    assert_same(&fs::read(&file).unwrap(), &qemu.memory(folder.path()));
}

#[test]
fn a_private_mapping_is_a_diff_over_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    let [parent, diff, flat] = ["parent", "diff", "flat"].map(|name| folder.path().join(name));
    let base = File::create(&parent).unwrap();
    base.set_len(BYTES).unwrap();
    base.write_all_at(&[0x5a; 1 << 20], 32 << 20).unwrap();
    let backend = format!("memory-backend-file,share=off,mem-path={}", parent.display());
    let mut qemu = Qemu::start(&backend, parent.to_str().unwrap());
    let pages = qemu.capture(MappingKind::Private, &diff);
    flatten(&parent, &diff, &pages, &flat).unwrap();
    let memory = qemu.memory(folder.path());
    assert_same(&fs::read(&flat).unwrap(), &memory);
    assert!(memory[32 << 20..33 << 20].iter().all(|byte| *byte == 0x5a));
    assert!(pages.bytes() < BYTES / 4, "{} of {BYTES} bytes", pages.bytes());
}

fn assert_same(captured: &[u8], memory: &[u8]) {
    assert_eq!(captured.len(), memory.len());
    assert!(captured[..LOW_END] == memory[..LOW_END], "below 640 KiB");
    assert!(captured[HIGH_START..] == memory[HIGH_START..], "above 1 MiB");
    assert!(memory[HIGH_START..].iter().any(|byte| *byte != 0), "the firmware has not run");
}

struct Qemu {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    region: Region,
}

impl Qemu {
    /// Starts QEMU with this memory backend, whose mapping has `mark` in its name.
    fn start(backend: &str, mark: &str) -> Self {
        let mut process = Command::new("qemu-system-x86_64")
            .args(["-M", "pc,memory-backend=ram", "-accel", "tcg", "-nodefaults", "-display", "none"])
            .args(["-object", &format!("{backend},id=ram,size={BYTES}"), "-m", "64M", "-qmp", "stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("qemu-system-x86_64 is needed: apt-get install qemu-system-x86");
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let region = Region { address: 0, offset: 0, length: BYTES };
        let mut qemu = Self { process, input, output, region };
        qemu.execute("qmp_capabilities", &json!({}));
        qemu.region.address = qemu.find(mark);
        qemu
    }

    fn find(&self, mark: &str) -> u64 {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.process.id())).unwrap();
        let line = maps.lines().find(|line| line.contains(mark)).expect("mapped");
        u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap()
    }

    fn execute(&mut self, command: &str, arguments: &Value) {
        writeln!(self.input, "{}", json!({ "execute": command, "arguments": arguments })).unwrap();
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "QEMU has exited");
            let reply: Value = serde_json::from_str(&line).unwrap();
            assert!(reply.get("error").is_none(), "{command}: {reply}");
            if reply.get("return").is_some() {
                return;
            }
        }
    }

    /// Captures while the firmware runs, and leaves the machine stopped.
    fn capture(&mut self, mapping_kind: MappingKind, file: &Path) -> Pages {
        let pid = self.process.id();
        let deadline = Instant::now() + TIMEOUT;
        let high = Pages::from(HIGH_START as u64 / PAGE..BYTES / PAGE);
        while changed_pages(pid, &[self.region], mapping_kind).unwrap().intersection(&high).is_empty() {
            assert!(Instant::now() < deadline, "the firmware writes nothing");
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut capture = Capture::prepare(pid, vec![self.region], mapping_kind, file).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        self.execute("stop", &json!({}));
        let pages = capture.copy_changed().unwrap();
        capture.finish(false, false).unwrap();
        pages
    }

    /// The guest's memory as QEMU reports it.
    fn memory(&mut self, folder: &Path) -> Vec<u8> {
        let file = folder.join("dump");
        self.execute("pmemsave", &json!({ "val": 0, "size": BYTES, "filename": file }));
        fs::read(file).unwrap()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
