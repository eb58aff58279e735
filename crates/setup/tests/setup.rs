//! `setup kernel` and the initramfs with a real kernel: the distribution's package is
//! downloaded through apt once, and kept below the target directory for later runs.
#![allow(clippy::unwrap_used, reason = "a test that cannot continue fails there")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use mimeo_setup::kernel::{
    self, Entry, FileKernelError, ImageError, LoadError, Manifest, Module, SetUpError, Source, Step,
};
use mimeo_setup::{Initramfs, Kernel};
use sha2::{Digest as _, Sha256};

/// Debian's kernel in a home shared by all tests; none may change it.
fn debian() -> Kernel {
    // Loading takes no time; setting up again would read and hash it all. Another selection of modules is another home.
    let selection = Sha256::digest(include_str!("../src/kernel/modules.rs"));
    let home = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("setup-home-{:02x}{:02x}", selection[0], selection[1]));
    Kernel::load(&home).unwrap_or_else(|_| kernel::set_up(&home, &Source::Debian, &mut |_| {}).unwrap())
}

/// A kernel as a user would give it, with Debian's modules. It is small, so
/// that no test waits for hashing.
fn kernel_file(home: &Path) -> Source {
    let kernel = home.join("given-bzimage");
    fs::write(&kernel, bzimage(&vmlinux())).unwrap();
    Source::File { kernel, modules: Some(debian().dir.join("modules")) }
}

/// The smallest file that is accepted as a kernel: a banner and a PVH note.
fn vmlinux() -> Vec<u8> {
    let mut elf = vec![0; 64 + 56];
    elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let fields: [(usize, u16); 6] = [(16, 2), (18, 62), (32, 64), (52, 64), (54, 56), (56, 1)];
    let program: [(usize, u16); 3] = [(64, 4), (72, 120), (96, 20)];
    for (at, value) in fields.into_iter().chain(program) {
        elf[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    [4_u32, 4, 18].iter().for_each(|word| elf.extend(word.to_le_bytes()));
    elf.extend(b"Xen\0\x00\x00\x00\x01");
    elf.extend(b"Linux version 6.1.0-given (somebody)");
    elf
}

fn bzimage(vmlinux: &[u8]) -> Vec<u8> {
    let payload = zstd::encode_all(vmlinux, 1).unwrap();
    let mut bytes = vec![0; 0x400];
    bytes[0x1f1] = 1;
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
    bytes[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    [bytes, payload].concat()
}

fn set_up(home: &Path, source: &Source) -> (Kernel, Vec<Step>) {
    let mut steps = Vec::new();
    let kernel = kernel::set_up(home, source, &mut |step| steps.push(step)).unwrap();
    (kernel, steps)
}

fn names(modules: &[Module]) -> Vec<&str> {
    modules.iter().map(|module| module.file.as_str()).collect()
}

fn hidden_entries(home: &Path, prefix: &str) -> usize {
    let entries = fs::read_dir(home.join("kernels")).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(prefix)).count()
}

#[test]
fn debians_kernel_is_complete_and_its_modules_are_in_load_order() {
    let kernel = debian();
    kernel.verify().unwrap();
    assert_eq!(kernel.manifest.image.entry, Entry::Pvh);
    assert!(kernel.manifest.release.ends_with("-cloud-amd64"), "{}", kernel.manifest.release);
    let eager = names(&kernel.manifest.modules.eager);
    let position = |file| eager.iter().position(|name| *name == file).unwrap();
    assert!(position("virtio_ring.ko") < position("virtio.ko"));
    assert!(position("virtio.ko") < position("virtio_mmio.ko"));
    assert!(
        position("failover.ko") < position("net_failover.ko")
            && position("net_failover.ko") < position("virtio_net.ko")
    );
    let lazy = names(&kernel.manifest.modules.lazy);
    assert!(lazy.contains(&"fuse.ko") && lazy.contains(&"tcp_diag.ko"), "{lazy:?}");
    assert!(lazy.ends_with(&["nls_cp437.ko", "nls_ascii.ko", "fat.ko", "vfat.ko"]), "{lazy:?}");
    assert!(lazy.iter().all(|name| !eager.contains(name)));
}

#[test]
fn a_second_setup_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let source = kernel_file(home.path());
    let (first, _) = set_up(home.path(), &source);
    let (second, steps) = set_up(home.path(), &source);
    assert_eq!(first, second);
    assert_eq!(steps, [Step::Checking { name: first.manifest.name.clone() }]);
    assert_eq!(Kernel::load(home.path()).unwrap().manifest, first.manifest);
}

#[test]
fn two_concurrent_setups_make_one_kernel() {
    let home = tempfile::tempdir().unwrap();
    let source = kernel_file(home.path());
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| set_up(home.path(), &source).0)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(results[0], results[1]);
    results[0].verify().unwrap();
    assert_eq!(hidden_entries(home.path(), ".staging-"), 0);
}

#[test]
fn the_next_setup_removes_what_a_crash_left() {
    let home = tempfile::tempdir().unwrap();
    let stale = home.path().join("kernels/.staging-dead/package");
    fs::create_dir_all(&stale).unwrap();
    fs::write(stale.join("half.deb"), b"half").unwrap();
    set_up(home.path(), &kernel_file(home.path()));
    assert_eq!(hidden_entries(home.path(), ".staging-"), 0);
}

#[test]
fn a_corrupt_manifest_is_refused_then_set_aside() {
    let home = tempfile::tempdir().unwrap();
    let source = kernel_file(home.path());
    let (kernel, _) = set_up(home.path(), &source);
    fs::write(kernel.dir.join("kernel.json"), b"{\"format\": 1, ").unwrap();
    assert!(matches!(Kernel::load(home.path()), Err(LoadError::Unparsable { .. })));
    let (again, steps) = set_up(home.path(), &source);
    assert!(matches!(&steps[1], Step::SetAside { to, .. } if to.join("kernel.json").exists()), "{steps:?}");
    assert_eq!(hidden_entries(home.path(), ".broken-"), 1);
    again.verify().unwrap();
}

#[test]
fn a_damaged_kernel_is_detected_and_replaced() {
    let home = tempfile::tempdir().unwrap();
    let source = kernel_file(home.path());
    let (kernel, _) = set_up(home.path(), &source);
    File::options().write(true).open(kernel.image()).unwrap().set_len(100).unwrap();
    assert!(matches!(kernel.verify(), Err(LoadError::Damaged { path }) if path == kernel.image()));
    set_up(home.path(), &source).0.verify().unwrap();
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    let home = tempfile::tempdir().unwrap();
    let (kernel, _) = set_up(home.path(), &kernel_file(home.path()));
    fs::write(kernel.dir.join("kernel.json"), b"{\"format\": 2, \"all\": \"new\"}").unwrap();
    assert!(matches!(Kernel::load(home.path()), Err(LoadError::TooNew { found: 2, .. })));
}

#[test]
fn a_manifest_without_the_optional_fields_is_read() {
    let text = r#"{"format":1,"name":"n","release":"6.1","origin":{"kind":"file","path":"/k"},
                   "image":{"file":"vmlinux","entry":"pvh","sha256":"00"},"later":"ignored"}"#;
    let manifest: Manifest = serde_json::from_str(text).unwrap();
    assert!(manifest.fallback.is_none() && manifest.modules.eager.is_empty());
}

#[test]
fn a_wrong_file_leaves_the_default_unchanged() {
    let home = tempfile::tempdir().unwrap();
    let (before, _) = set_up(home.path(), &kernel_file(home.path()));
    let wrong = Source::File { kernel: "/etc/passwd".into(), modules: None };
    let error = kernel::set_up(home.path(), &wrong, &mut |_| {}).unwrap_err();
    let SetUpError::GivenFile(FileKernelError::Image { path, source }) = &error else { panic!("{error:?}") };
    assert_eq!(path, Path::new("/etc/passwd"));
    assert!(matches!(source, ImageError::Unknown));
    assert_eq!(Kernel::load(home.path()).unwrap().manifest, before.manifest);
    assert_eq!(hidden_entries(home.path(), ".staging-"), 0);
}

#[test]
fn a_vmlinux_without_its_bzimage_is_enough() {
    let home = tempfile::tempdir().unwrap();
    let given = home.path().join("given-vmlinux");
    fs::write(&given, vmlinux()).unwrap();
    let (kernel, _) = set_up(home.path(), &Source::File { kernel: given, modules: None });
    assert_eq!(kernel.fallback(), None);
    assert_eq!(kernel.manifest.release, "6.1.0-given");
}

#[test]
fn without_apt_the_error_names_the_alternative() {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--ignored", "--exact", "child_without_apt", "--nocapture"]).env("PATH", "");
    let output = child.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "run by another test, with an empty PATH"]
fn child_without_apt() {
    let home = tempfile::tempdir().unwrap();
    let error = kernel::set_up(home.path(), &Source::Debian, &mut |_| {}).unwrap_err();
    let chain = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    let messages: Vec<_> = chain.map(ToString::to_string).collect();
    assert!(messages.last().unwrap().contains("--kernel FILE"), "{messages:?}");
    assert!(!home.path().join("kernels").exists());
    let error = kernel::set_up(home.path(), &Source::Build { package: None }, &mut |_| {}).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("apt-get install --no-install-recommends make gcc"), "{source}");
}

/// A newc archive's entries: name, mode, content.
fn entries(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
    let mut entries = Vec::new();
    let mut at = 0;
    loop {
        let field = |n: usize| {
            let text = std::str::from_utf8(&archive[at + 6 + n * 8..at + 14 + n * 8]).unwrap();
            u32::from_str_radix(text, 16).unwrap() as usize
        };
        assert_eq!(&archive[at..at + 6], b"070701");
        let (mode, length, name_length) = (field(1), field(6), field(11));
        let name = String::from_utf8(archive[at + 110..at + 110 + name_length - 1].to_vec()).unwrap();
        if name == "TRAILER!!!" {
            return entries;
        }
        let content = (at + 110 + name_length).next_multiple_of(4);
        entries.push((name, mode as u32, archive[content..content + length].to_vec()));
        at = (content + length).next_multiple_of(4);
    }
}

fn archives(kernel: &Kernel) -> Vec<PathBuf> {
    let all = fs::read_dir(&kernel.dir).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.to_string_lossy().contains("initramfs-")).collect()
}

#[test]
fn the_initramfs_holds_the_agent_and_the_modules_in_order() {
    let home = tempfile::tempdir().unwrap();
    let (kernel, _) = set_up(home.path(), &kernel_file(home.path()));
    let initramfs = Initramfs::ensure(&kernel, b"the agent").unwrap();
    let entries = entries(&fs::read(&initramfs.path).unwrap());
    let content = |path: &str| &entries.iter().find(|(name, ..)| name == path).unwrap().2;
    assert_eq!(content("init"), b"the agent");
    assert!(entries.iter().any(|(name, mode, _)| name == "init" && *mode == 0o100_755));
    let eager = String::from_utf8(content("modules.eager").clone()).unwrap();
    assert_eq!(eager.lines().collect::<Vec<_>>(), names(&kernel.manifest.modules.eager));
    for name in eager.lines() {
        assert!(content(&format!("modules/{name}")).starts_with(b"\x7fELF"), "{name}");
    }
}

#[test]
fn the_initramfs_is_built_once_for_the_same_agent() {
    let home = tempfile::tempdir().unwrap();
    let (kernel, _) = set_up(home.path(), &kernel_file(home.path()));
    let first = Initramfs::ensure(&kernel, b"agent").unwrap();
    let written = fs::metadata(&first.path).unwrap().modified().unwrap();
    let second = Initramfs::ensure(&kernel, b"agent").unwrap();
    assert_eq!(first.path, second.path);
    assert_eq!(fs::metadata(&second.path).unwrap().modified().unwrap(), written);
}

#[test]
fn an_old_initramfs_is_deleted_once_it_is_unlocked() {
    let home = tempfile::tempdir().unwrap();
    let (kernel, _) = set_up(home.path(), &kernel_file(home.path()));
    let held = Initramfs::ensure(&kernel, b"first").unwrap();
    drop(Initramfs::ensure(&kernel, b"second").unwrap());
    let third = Initramfs::ensure(&kernel, b"third").unwrap();
    let mut remaining = archives(&kernel);
    remaining.sort();
    let mut expected = vec![held.path.clone(), third.path.clone()];
    expected.sort();
    assert_eq!(remaining, expected);
}

#[test]
fn concurrent_callers_get_one_initramfs() {
    let home = tempfile::tempdir().unwrap();
    let (kernel, _) = set_up(home.path(), &kernel_file(home.path()));
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| Initramfs::ensure(&kernel, b"agent").unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(results.iter().all(|initramfs| initramfs.path == results[0].path && initramfs.path.exists()));
    assert_eq!(archives(&kernel).len(), 1);
}
