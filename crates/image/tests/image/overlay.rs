//! Overlays: their bytes on disk, and reads and writes by QEMU.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use mimeo_image::overlay::{self, Backing, BackingFormat, OverlayError};
use serde_json::{Value, json};

const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

fn over(name: &str) -> Backing<'_> {
    Backing { name, format: BackingFormat::Raw }
}

#[test]
fn the_header_matches_the_qcow2_format() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.qcow2");
    overlay::create(&path, &over("base.ext4"), 10 * GIB).unwrap();
    let bytes = fs::read(&path).unwrap();
    let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let long = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!(&bytes[..8], b"QFI\xfb\0\0\0\x03");
    assert_eq!((long(8), word(16)), (128, 9), "the name follows the extensions");
    assert_eq!((word(20), long(24), word(32)), (16, 10 * GIB, 0), "clusters, size, no encryption");
    assert_eq!((word(36), long(40)), (20, 3 << 16), "L1 table");
    assert_eq!((long(48), word(56)), (1 << 16, 1), "refcount table");
    assert!(bytes[60..96].iter().all(|byte| *byte == 0), "no snapshots, no features");
    assert_eq!((word(96), word(100)), (4, 104));
    assert_eq!(
        &bytes[104..144],
        b"\xe2\x79\x2a\xca\0\0\0\x03raw\0\0\0\0\0\0\0\0\0\0\0\0\0base.ext4\0\0\0\0\0\0\0"
    );
    assert_eq!(long(1 << 16), 2 << 16, "the refcount block");
    let counts = &bytes[2 << 16..3 << 16];
    assert!(counts.starts_with(&[0, 1, 0, 1, 0, 1, 0, 1, 0, 0]));
    assert!(bytes[3 << 16..].iter().all(|byte| *byte == 0) && bytes.len() == 4 << 16);
}

#[test]
fn an_overlay_uses_little_space_at_any_size() {
    let dir = tempfile::tempdir().unwrap();
    for (number, bytes) in [512, GIB, 16 * TIB, 64 * TIB].into_iter().enumerate() {
        let path = dir.path().join(number.to_string());
        overlay::create(&path, &over("base"), bytes).unwrap();
        let meta = fs::metadata(&path).unwrap();
        assert!(meta.blocks() * 512 <= 64 << 10, "{bytes}: {} on disk", meta.blocks() * 512);
        assert!(meta.len() <= 2 << 20);
    }
}

#[test]
fn invalid_parameters_are_refused_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    for bytes in [0, 513, 64 * TIB + 512, u64::MAX] {
        let refused = overlay::create(&path, &over("base"), bytes).unwrap_err();
        assert!(matches!(refused, OverlayError::Size { bytes: named } if named == bytes));
    }
    for name in ["", "/etc/shadow", "nbd:localhost:1", "json:{}", "a\0b", &"x".repeat(1024)] {
        let refused = overlay::create(&path, &over(name), GIB).unwrap_err();
        assert!(matches!(refused, OverlayError::Name { name: named } if named == name));
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    fs::write(&path, "here before").unwrap();
    let refused = overlay::create(&path, &over("base"), GIB).unwrap_err();
    assert!(matches!(refused, OverlayError::Exists { .. }));
    assert_eq!(fs::read(&path).unwrap(), b"here before");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_reflink_is_identical_or_absent() {
    let dir = tempfile::tempdir().unwrap();
    let [from, to] = ["from", "to"].map(|name| dir.path().join(name));
    fs::write(&from, vec![5; 1 << 20]).unwrap();
    let made = overlay::reflink(&from, &to).unwrap();
    assert_eq!(to.exists(), made);
    assert!(!made || fs::read(&to).unwrap() == fs::read(&from).unwrap());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1 + usize::from(made));
    let refused = overlay::reflink(&dir.path().join("missing"), &to).unwrap_err();
    assert!(matches!(refused, OverlayError::Read { .. }));
}

/// base (raw) <- one <- two; each holds different bytes at its own offsets.
#[test]
fn qemu_reads_and_writes_through_a_chain() {
    let dir = tempfile::tempdir().unwrap();
    let base = File::create(dir.path().join("base")).unwrap();
    base.set_len(GIB).unwrap();
    base.write_all_at(&[0x11; 4 << 16], 0).unwrap();
    overlay::create(&dir.path().join("one"), &over("base"), GIB).unwrap();
    let mut qemu = Qemu::start(dir.path(), "one");
    qemu.qemu_io("read -P 0x11 0 256k");
    qemu.qemu_io("read -P 0 256k 64k");
    qemu.qemu_io("write -P 0x22 64k 128k");
    drop(qemu);
    let before = fs::read(dir.path().join("one")).unwrap();

    let backing = Backing { name: "one", format: BackingFormat::Qcow2 };
    overlay::create(&dir.path().join("two"), &backing, GIB).unwrap();
    let mut qemu = Qemu::start(dir.path(), "two");
    assert_eq!(qemu.chain(), [("qcow2", "two"), ("qcow2", "one"), ("raw", "base")].map(owned));
    qemu.qemu_io("write -P 0x33 1000M 4k");
    qemu.qemu_io("write -P 0x33 100k 4k");
    for part in ["0x11 0 64k", "0x22 64k 36k", "0x33 100k 4k", "0x22 104k 88k", "0x11 192k 64k", "0 256k 1M"]
    {
        qemu.qemu_io(&format!("read -P {part}"));
    }
    qemu.qemu_io("read -P 0x33 1000M 4k");
    drop(qemu);
    assert!(fs::read(dir.path().join("one")).unwrap() == before, "the backing file has changed");
}

#[test]
fn qemu_writes_to_the_end_of_the_largest_overlay() {
    let dir = tempfile::tempdir().unwrap();
    File::create(dir.path().join("base")).unwrap().set_len(1 << 20).unwrap();
    overlay::create(&dir.path().join("disk"), &over("base"), 64 * TIB).unwrap();
    let mut qemu = Qemu::start(dir.path(), "disk");
    qemu.qemu_io("write -P 0x44 67108863M 1M");
    qemu.qemu_io("read -P 0x44 67108863M 1M");
}

fn owned((format, name): (&str, &str)) -> (String, String) {
    (format.to_owned(), name.to_owned())
}

/// A QEMU that runs no guest, with one disk named `disk`.
struct Qemu {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Qemu {
    fn start(folder: &Path, file: &str) -> Self {
        let drive = format!("driver=qcow2,node-name=disk,file.driver=file,file.filename={file}");
        let mut process = Command::new("qemu-system-x86_64")
            .args(["-M", "none", "-nodefaults", "-display", "none", "-S", "-qmp", "stdio", "-blockdev"])
            .arg(drive)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("qemu-system-x86_64 is needed: apt-get install qemu-system-x86");
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut qemu = Self { process, input, output };
        qemu.execute("qmp_capabilities", &json!({}));
        qemu
    }

    /// Returns the reply and everything that QEMU printed before it.
    fn execute(&mut self, command: &str, arguments: &Value) -> (Value, String) {
        writeln!(self.input, "{}", json!({ "execute": command, "arguments": arguments })).unwrap();
        let mut printed = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "QEMU has exited: {printed}");
            match serde_json::from_str::<Value>(&line) {
                Ok(mut answer) if answer.get("return").is_some() => {
                    return (answer["return"].take(), printed);
                }
                Ok(answer) => assert!(answer.get("error").is_none(), "{command}: {answer}"),
                Err(_) => printed.push_str(&line),
            }
        }
    }

    /// Runs a `qemu-io` command; fails if the command fails.
    fn qemu_io(&mut self, command: &str) {
        let line = format!("qemu-io disk \"{command}\"");
        let (answer, printed) = self.execute("human-monitor-command", &json!({ "command-line": line }));
        let output = format!("{}{printed}", answer.as_str().unwrap());
        let done = output.contains("ops") && !output.contains("failed") && !output.contains("rror");
        assert!(done, "{command}: {output}");
    }

    /// Format and file name of each layer, from the top down.
    fn chain(&mut self) -> Vec<(String, String)> {
        let (nodes, _) = self.execute("query-named-block-nodes", &json!({ "flat": false }));
        let node = nodes.as_array().unwrap().iter().find(|node| node["node-name"] == "disk").unwrap();
        let top = std::iter::successors(Some(&node["image"]), |image| image.get("backing-image"));
        let text = |value: &Value| value.as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        top.map(|image| (text(&image["format"]), text(&image["filename"]))).collect()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // Not killed, so that QEMU flushes its cached tables to the file.
        let sent = writeln!(self.input, "{}", json!({ "execute": "quit" }));
        if sent.is_err() {
            self.process.kill().ok();
        }
        self.process.wait().ok();
    }
}
