//! Checks the behaviour of a filesystem in the working directory, as POSIX and Linux define it.
//! Each argument names a check; without any, all run. The test runs it on the host, too.

use std::ffi::{CString, c_char, c_int, c_long, c_short, c_uint, c_ulong, c_void};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn mmap(at: *mut c_void, length: usize, prot: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut c_void;
    fn munmap(at: *mut c_void, length: usize) -> c_int;
    fn msync(at: *mut c_void, length: usize, flags: c_int) -> c_int;
    fn fallocate(fd: c_int, mode: c_int, offset: i64, length: i64) -> c_int;
    fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    fn flock(fd: c_int, operation: c_int) -> c_int;
    fn setxattr(path: *const c_char, name: *const c_char, value: *const u8, size: usize, flags: c_int) -> c_int;
    fn getxattr(path: *const c_char, name: *const c_char, value: *mut u8, size: usize) -> isize;
    fn listxattr(path: *const c_char, names: *mut u8, size: usize) -> isize;
    fn removexattr(path: *const c_char, name: *const c_char) -> c_int;
    fn mkfifo(path: *const c_char, mode: c_uint) -> c_int;
    fn lseek(fd: c_int, offset: i64, whence: c_int) -> i64;
    fn utimensat(dir: c_int, path: *const c_char, times: *const [i64; 4], flags: c_int) -> c_int;
    fn linkat(from: c_int, old: *const c_char, to: c_int, new: *const c_char, flags: c_int) -> c_int;
    fn umask(mask: c_uint) -> c_uint;
    fn statvfs(path: *const c_char, out: *mut [c_ulong; 16]) -> c_int;
}

const AT_FDCWD: c_int = -100;
const SYS_RENAMEAT2: c_long = 316;
const SYS_COPY_FILE_RANGE: c_long = 326;
const NOREPLACE: c_uint = 1;
const EXCHANGE: c_uint = 2;
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EAGAIN: i32 = 11;
const EACCES: i32 = 13;
const EEXIST: i32 = 17;
const EISDIR: i32 = 21;
const EINVAL: i32 = 22;
const ENXIO: i32 = 6;
const ENAMETOOLONG: i32 = 36;
const ENOTEMPTY: i32 = 39;
const ENODATA: i32 = 61;
const EOPNOTSUPP: i32 = 95;
const GIB: u64 = 1 << 30;

/// `struct flock`
#[repr(C)]
struct Lock {
    kind: c_short,
    whence: c_short,
    start: i64,
    length: i64,
    pid: c_int,
}

const READ_LOCK: c_short = 0;
const WRITE_LOCK: c_short = 1;
const UNLOCK: c_short = 2;
const GETLK: c_int = 5;
const SETLK: c_int = 6;
const SETLKW: c_int = 7;
const OFD_SETLK: c_int = 37;
const FLOCK_EXCLUSIVE: c_int = 2;
const FLOCK_NONBLOCKING: c_int = 4;

type Check = fn();

const CHECKS: &[(&str, Check)] = &[
    ("rename_over_existing", rename_over_existing),
    ("rename_across_directories", rename_across_directories),
    ("rename_of_directories", rename_of_directories),
    ("rename_flags", rename_flags),
    ("rename_of_an_open_file", rename_of_an_open_file),
    ("rename_of_an_open_directory", rename_of_an_open_directory),
    ("hard_links", hard_links),
    ("unlinked_but_open", unlinked_but_open),
    ("unnamed_files", unnamed_files),
    ("shared_mappings", shared_mappings),
    ("private_mappings", private_mappings),
    ("append", append),
    ("open_flags", open_flags),
    ("sparse_files", sparse_files),
    ("beyond_four_gib", beyond_four_gib),
    ("allocation", allocation),
    ("copy_range", copy_range),
    ("flock_between_processes", flock_between_processes),
    ("record_locks_between_processes", record_locks_between_processes),
    ("locks_of_descriptions", locks_of_descriptions),
    ("listing_while_deleting", listing_while_deleting),
    ("names", names),
    ("deep_paths", deep_paths),
    ("attributes_of_users", attributes_of_users),
    ("modes", modes),
    ("times", times),
    ("pipes_and_sockets", pipes_and_sockets),
    ("symbolic_links", symbolic_links),
    ("filesystem_size", filesystem_size),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--try-flock", path] => try_flock(path),
        ["--try-lock", path, start] => try_lock(path, start.parse().expect("a number")),
        ["--hold", kind, path, ready] => hold(kind, path, ready),
        ["--wait-lock", path] => wait_lock(path),
        ["--wait-flock", path] => wait_flock(path),
        ["--append", path, text, count] => append_lines(path, text, count.parse().expect("a number")),
        ["--map-fill", path] => map_fill(path),
        ["--many", count] => make_many(count.parse().expect("a number")),
        ["--walk"] => walk(),
        ["--fill", path, mib] => fill(path, mib.parse().expect("a number")),
        ["--digest", path] => println!("{:016x}", digest(path)),
        _ => run_checks(&arguments),
    }
}

fn run_checks(names: &[String]) {
    for (name, check) in CHECKS.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|n| n == name)) {
        fs::create_dir(name).expect("a new directory");
        std::env::set_current_dir(name).expect("entered");
        let failed = std::panic::catch_unwind(check).is_err();
        std::env::set_current_dir("..").expect("left");
        println!("{} {name}", if failed { "FAILED" } else { "ok" });
    }
}

fn c(text: &str) -> CString {
    CString::new(text).expect("no zero in it")
}

fn result(code: impl Into<i64>) -> Result<i64, i32> {
    let code = code.into();
    if code < 0 { Err(io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { Ok(code) }
}

fn error<T: std::fmt::Debug>(outcome: io::Result<T>) -> i32 {
    outcome.expect_err("refused").raw_os_error().expect("an error of the system")
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).expect("readable")
}

fn write(path: impl AsRef<Path>, text: &str) {
    fs::write(path, text).expect("writable");
}

fn stat(path: impl AsRef<Path>) -> fs::Metadata {
    fs::symlink_metadata(path).expect("it exists")
}

fn open_rw(path: &str) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).expect("opened")
}

fn list(path: &str) -> Vec<String> {
    let entries = fs::read_dir(path).expect("a directory");
    let mut names: Vec<_> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn rename2(old: &str, new: &str, flags: c_uint) -> Result<i64, i32> {
    let (old, new) = (c(old), c(new));
    result(unsafe { syscall(SYS_RENAMEAT2, AT_FDCWD, old.as_ptr(), AT_FDCWD, new.as_ptr(), flags) })
}

/// Runs this program, and returns its exit code.
fn myself(arguments: &[&str]) -> i32 {
    command(arguments).status().expect("it runs").code().expect("an exit code")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(arguments);
    command
}

fn rename_over_existing() {
    write("old", "old");
    write("new", "new");
    let (inode, replaced) = (stat("old").ino(), File::open("new").expect("opened"));
    fs::rename("old", "new").expect("renamed");
    assert_eq!(list("."), ["new"]);
    assert_eq!((read("new").as_str(), stat("new").ino()), ("old", inode));
    assert_eq!(replaced.metadata().expect("open").nlink(), 0);
    let mut text = String::new();
    (&replaced).read_to_string(&mut text).expect("readable");
    assert_eq!(text, "new");
    fs::rename("new", "new").expect("the same name is no change");
    assert_eq!(error(fs::rename("none", "new")), ENOENT);
}

fn rename_across_directories() {
    fs::create_dir_all("a/b").expect("created");
    fs::create_dir("c").expect("created");
    write("a/b/file", "text");
    fs::rename("a/b/file", "c/moved").expect("renamed");
    assert_eq!((list("a/b").len(), read("c/moved").as_str()), (0, "text"));
    fs::rename("a", "c/a").expect("renamed");
    assert_eq!((list("."), list("c"), list("c/a")), (vec!["c".into()], vec!["a".into(), "moved".into()], vec!["b".into()]));
}

fn rename_of_directories() {
    fs::create_dir_all("full/inner").expect("created");
    fs::create_dir("empty").expect("created");
    write("file", "");
    assert_eq!(error(fs::rename("empty", "full")), ENOTEMPTY);
    assert_eq!(error(fs::rename("full", "full/inner/self")), EINVAL);
    assert_eq!(error(fs::rename("file", "empty")), EISDIR);
    assert_eq!(stat("full").nlink(), 3);
    fs::rename("full", "empty").expect("it replaces an empty directory");
    assert_eq!(list("empty"), ["inner"]);
    fs::rename("empty/inner", "inner").expect("renamed");
    assert_eq!(stat("empty").nlink(), 2);
    assert_eq!(stat("inner/..").ino(), stat(".").ino());
}

fn rename_flags() {
    write("a", "a");
    write("b", "b");
    fs::create_dir("dir").expect("created");
    assert_eq!(rename2("a", "b", NOREPLACE), Err(EEXIST));
    assert_eq!(rename2("a", "c", NOREPLACE), Ok(0));
    assert_eq!(rename2("c", "none", EXCHANGE), Err(ENOENT));
    let (file, dir) = (stat("c").ino(), stat("dir").ino());
    assert_eq!(rename2("c", "b", EXCHANGE), Ok(0));
    assert_eq!((read("c").as_str(), read("b").as_str(), stat("b").ino()), ("b", "a", file));
    assert_eq!(rename2("b", "dir", EXCHANGE), Ok(0));
    assert_eq!((stat("b").ino(), stat("dir").ino(), read("dir").as_str()), (dir, file, "a"));
    write("b/inside", "x");
    assert_eq!(read("b/inside"), "x");
}

fn rename_of_an_open_file() {
    let mut file = open_rw("one");
    file.write_all(b"first ").expect("written");
    fs::rename("one", "two").expect("renamed");
    file.write_all(b"second").expect("written");
    assert_eq!(read("two"), "first second");
    file.set_len(5).expect("truncated");
    assert_eq!(read("two"), "first");
    assert_eq!(file.metadata().expect("open").ino(), stat("two").ino());
}

fn rename_of_an_open_directory() {
    fs::create_dir("dir").expect("created");
    (0..300).for_each(|n| write(format!("dir/{n}"), ""));
    let mut entries = fs::read_dir("dir").expect("a directory");
    let first = entries.next().expect("an entry").expect("readable");
    std::env::set_current_dir("dir").expect("entered");
    fs::rename("../dir", "../moved").expect("renamed");
    assert_eq!(entries.count(), 299, "after {first:?}");
    write("from-inside", "x");
    assert_eq!(std::env::current_dir().expect("known").file_name(), Some("moved".as_ref()));
    std::env::set_current_dir("..").expect("left");
    assert_eq!(read("moved/from-inside"), "x");
}

fn hard_links() {
    write("a", "one");
    fs::hard_link("a", "b").expect("linked");
    fs::create_dir("dir").expect("created");
    fs::hard_link("b", "dir/c").expect("linked");
    let inode = stat("a").ino();
    for name in ["a", "b", "dir/c"] {
        assert_eq!((stat(name).ino(), stat(name).nlink()), (inode, 3), "{name}");
    }
    write("b", "two, longer");
    assert_eq!((read("a").as_str(), read("dir/c").as_str()), ("two, longer", "two, longer"));
    fs::remove_file("a").expect("removed");
    assert_eq!((stat("b").nlink(), stat("dir/c").nlink()), (2, 2));
    write("b", "three");
    assert_eq!(read("dir/c"), "three");
    fs::set_permissions("b", fs::Permissions::from_mode(0o600)).expect("changed");
    assert_eq!(stat("dir/c").mode() & 0o777, 0o600);
    fs::rename("b", "dir/c").expect("two names of one file: no change");
    assert_eq!(stat("b").nlink(), 2);
    assert_eq!(error(fs::hard_link("b", "dir/c")), EEXIST);
    assert_eq!(error(fs::hard_link("dir", "dir2")), EPERM);
}

fn unlinked_but_open() {
    let file = open_rw("file");
    file.write_all_at(b"before", 0).expect("written");
    fs::remove_file("file").expect("removed");
    assert_eq!((list(".").len(), file.metadata().expect("open").nlink()), (0, 0));
    file.write_all_at(b" after", 6).expect("written");
    file.set_len(11).expect("truncated");
    write("file", "another");
    let again = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("opened again");
    let mut text = String::new();
    (&again).read_to_string(&mut text).expect("readable");
    assert_eq!((text.as_str(), read("file").as_str()), ("before afte", "another"));
    file.set_permissions(fs::Permissions::from_mode(0o600)).expect("changed");
    let dir = File::open(".").expect("opened");
    fs::create_dir("dir").expect("created");
    std::env::set_current_dir("dir").expect("entered");
    fs::remove_dir("../dir").expect("removed");
    assert_eq!(error(fs::write("x", "")), ENOENT);
    std::env::set_current_dir(format!("/proc/self/fd/{}", dir.as_raw_fd())).expect("left");
}

fn unnamed_files() {
    const O_TMPFILE: i32 = 0o20_200_000;
    let mut file = OpenOptions::new().read(true).write(true).custom_flags(O_TMPFILE).open(".").expect("opened");
    file.write_all(b"text").expect("written");
    assert_eq!((list(".").len(), file.metadata().expect("open").nlink()), (0, 0));
    let (old, new) = (c(&format!("/proc/self/fd/{}", file.as_raw_fd())), c("named"));
    assert_eq!(result(unsafe { linkat(AT_FDCWD, old.as_ptr(), AT_FDCWD, new.as_ptr(), 0x400) }), Ok(0));
    assert_eq!((read("named").as_str(), stat("named").nlink()), ("text", 1));
    drop(file);
    assert_eq!(read("named"), "text");
}

fn map(file: &File, length: usize, prot: c_int, flags: c_int) -> &'static mut [u8] {
    let at = unsafe { mmap(std::ptr::null_mut(), length, prot, flags, file.as_raw_fd(), 0) };
    assert_ne!(at as isize, -1, "{}", io::Error::last_os_error());
    unsafe { std::slice::from_raw_parts_mut(at.cast(), length) }
}

fn unmap(bytes: &'static mut [u8]) {
    assert_eq!(unsafe { munmap(bytes.as_mut_ptr().cast(), bytes.len()) }, 0);
}

fn shared_mappings() {
    const SYNC: c_int = 4;
    let file = open_rw("file");
    file.write_all_at(&[b'a'; 10_000], 0).expect("written");
    let bytes = map(&file, 10_000, 3, 1);
    assert!(bytes.iter().all(|byte| *byte == b'a'));
    file.write_all_at(b"written", 5000).expect("written");
    assert_eq!(&bytes[4999..5008], b"awrittena");
    bytes[9999] = b'z';
    bytes[0] = b'A';
    assert_eq!(unsafe { msync(bytes.as_mut_ptr().cast(), bytes.len(), SYNC) }, 0);
    let mut read_back = [0; 10_000];
    File::open("file").expect("opened").read_exact_at(&mut read_back, 0).expect("read");
    assert_eq!((read_back[0], read_back[9999]), (b'A', b'z'));
    drop(file);
    // The mapping outlives the descriptor.
    bytes[1] = b'B';
    unmap(bytes);
    assert!(read("file").starts_with("ABaa"));
}

fn private_mappings() {
    write("file", "unchanged");
    let file = open_rw("file");
    let bytes = map(&file, 9, 3, 2);
    bytes.copy_from_slice(b"different");
    assert_eq!((read("file").as_str(), &*bytes), ("unchanged", &b"different"[..]));
    unmap(bytes);
}

fn append() {
    let writers = ["left", "right"].map(|text| command(&["--append", "log", text, "200"]).spawn().expect("started"));
    writers.into_iter().for_each(|mut writer| assert!(writer.wait().expect("ended").success()));
    let text = read("log");
    for writer in ["left", "right"] {
        let mine: Vec<_> = text.lines().filter_map(|line| line.strip_prefix(writer)).collect();
        assert_eq!(mine, (0..200).map(|n| format!(" {n}")).collect::<Vec<_>>(), "{writer}");
    }
    assert_eq!(text.lines().count(), 400);
    // The offset is ignored, and the flag may be set later.
    let file = open_rw("log");
    assert_eq!(unsafe { fcntl(file.as_raw_fd(), 4, 0o2000) }, 0);
    (&file).seek(SeekFrom::Start(0)).expect("moved");
    (&file).write_all(b"end").expect("written");
    assert!(read("log").ends_with("\nend"));
}

fn append_lines(path: &str, text: &str, count: u32) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).expect("opened");
    // One write each, as `write!` would not be.
    (0..count).for_each(|n| assert_eq!(file.write(format!("{text} {n}\n").as_bytes()).ok(), Some(text.len() + 2 + n.to_string().len())));
}

fn open_flags() {
    write("file", "content");
    assert_eq!(error(OpenOptions::new().write(true).create_new(true).open("file")), EEXIST);
    symlink("nowhere", "dangling").expect("linked");
    assert_eq!(error(OpenOptions::new().write(true).create_new(true).open("dangling")), EEXIST);
    let kept = File::open("file").expect("opened");
    drop(OpenOptions::new().write(true).truncate(true).open("file").expect("opened"));
    assert_eq!((stat("file").len(), kept.metadata().expect("open").len()), (0, 0));
    assert_eq!(error(File::open("none")), ENOENT);
    assert_eq!(error(OpenOptions::new().write(true).open(".")), EISDIR);
    const O_NOFOLLOW: i32 = 0o400_000;
    assert_eq!(error(OpenOptions::new().read(true).custom_flags(O_NOFOLLOW).open("dangling")), 40);
    const O_SYNC: i32 = 0o4_010_000;
    let mut synced = OpenOptions::new().write(true).custom_flags(O_SYNC).open("file").expect("opened");
    synced.write_all(b"synced").expect("written");
    synced.sync_all().expect("synced");
    assert_eq!(read("file"), "synced");
}

fn seek_to(file: &File, offset: u64, whence: c_int) -> Result<i64, i32> {
    result(unsafe { lseek(file.as_raw_fd(), offset as i64, whence) })
}

const SEEK_DATA: c_int = 3;
const SEEK_HOLE: c_int = 4;

fn sparse_files() {
    const MIB: u64 = 1 << 20;
    let file = open_rw("sparse");
    file.set_len(64 * MIB).expect("extended");
    assert_eq!((stat("sparse").len(), stat("sparse").blocks()), (64 * MIB, 0));
    assert_eq!(seek_to(&file, 0, SEEK_DATA), Err(ENXIO));
    file.write_all_at(&[1; 8192], 16 * MIB).expect("written");
    file.sync_all().expect("synced");
    assert_eq!(seek_to(&file, 0, SEEK_DATA), Ok(16 * MIB as i64));
    assert_eq!(seek_to(&file, 16 * MIB, SEEK_HOLE), Ok(16 * MIB as i64 + 8192));
    assert_eq!(seek_to(&file, 17 * MIB, SEEK_DATA), Err(ENXIO));
    assert!(stat("sparse").blocks() * 512 < MIB, "{}", stat("sparse").blocks());
    // KEEP_SIZE | PUNCH_HOLE
    assert_eq!(unsafe { fallocate(file.as_raw_fd(), 3, 16 * MIB as i64, 4096) }, 0);
    assert_eq!(seek_to(&file, 0, SEEK_DATA), Ok(16 * MIB as i64 + 4096));
    let mut bytes = [9; 8192];
    file.read_exact_at(&mut bytes, 16 * MIB).expect("read");
    assert!(bytes[..4096].iter().all(|byte| *byte == 0) && bytes[4096..].iter().all(|byte| *byte == 1));
    file.set_len(MIB).expect("truncated");
    file.set_len(32 * MIB).expect("extended");
    file.read_exact_at(&mut bytes, 16 * MIB).expect("read");
    assert!(bytes.iter().all(|byte| *byte == 0));
}

fn beyond_four_gib() {
    let file = open_rw("large");
    let places = [0, 2 * GIB - 2, 4 * GIB - 2, 4 * GIB + 1, 5 * GIB];
    for (number, at) in places.iter().enumerate() {
        file.write_all_at(format!("<{number}>").as_bytes(), *at).expect("written");
    }
    assert_eq!(stat("large").len(), 5 * GIB + 3);
    let again = File::open("large").expect("opened");
    for (number, at) in places.iter().enumerate() {
        let mut bytes = [0; 3];
        again.read_exact_at(&mut bytes, *at).expect("read");
        assert_eq!(bytes, format!("<{number}>").as_bytes(), "at {at}");
    }
    file.sync_all().expect("synced");
    assert_eq!(seek_to(&file, GIB, SEEK_DATA), Ok((2 * GIB - 4096) as i64));
    assert_eq!(seek_to(&file, 4 * GIB + 4096, SEEK_DATA), Ok(5 * GIB as i64));
    (&file).seek(SeekFrom::End(-3)).expect("moved");
    let mut text = String::new();
    (&file).read_to_string(&mut text).expect("read");
    assert_eq!(text, "<4>");
    let bytes = unsafe { mmap(std::ptr::null_mut(), 4096, 1, 1, file.as_raw_fd(), 5 * GIB as i64) };
    assert_eq!(unsafe { *bytes.cast::<[u8; 3]>() }, *b"<4>");
}

fn allocation() {
    let file = open_rw("file");
    assert_eq!(unsafe { fallocate(file.as_raw_fd(), 0, 0, 1 << 20) }, 0);
    assert_eq!(stat("file").len(), 1 << 20);
    assert!(stat("file").blocks() >= 2048);
    // KEEP_SIZE
    assert_eq!(unsafe { fallocate(file.as_raw_fd(), 1, 1 << 20, 1 << 20) }, 0);
    assert_eq!(stat("file").len(), 1 << 20);
    file.write_all_at(b"text", 0).expect("written");
    // ZERO_RANGE
    assert_eq!(unsafe { fallocate(file.as_raw_fd(), 0x10, 1, 2) }, 0);
    let mut bytes = [9; 4];
    file.read_exact_at(&mut bytes, 0).expect("read");
    assert_eq!(bytes, [b't', 0, 0, b't']);
}

fn copy_range() {
    let content: Vec<u8> = (0..300_000u32).map(|n| n.wrapping_mul(40_503) as u8).collect();
    fs::write("from", &content).expect("written");
    let (from, to) = (File::open("from").expect("opened"), open_rw("to"));
    let mut copied = 0;
    loop {
        let none = std::ptr::null_mut::<i64>();
        let done = unsafe { syscall(SYS_COPY_FILE_RANGE, from.as_raw_fd(), none, to.as_raw_fd(), none, 1 << 20, 0) };
        assert!(done >= 0, "{}", io::Error::last_os_error());
        if done == 0 {
            break;
        }
        copied += done;
    }
    assert_eq!(copied, 300_000);
    assert_eq!(fs::read("to").expect("readable"), content);
    assert_eq!(fs::copy("from", "copy").expect("copied"), 300_000);
    assert_eq!(fs::read("copy").expect("readable"), content);
}

fn lock(file: &File, command: c_int, kind: c_short, start: i64, length: i64) -> Result<Lock, i32> {
    let mut lock = Lock { kind, whence: 0, start, length, pid: 0 };
    result(unsafe { fcntl(file.as_raw_fd(), command, &raw mut lock) })?;
    Ok(lock)
}

/// Exits with 1 if another process has an incompatible `flock`.
fn try_flock(path: &str) {
    let file = open_rw(path);
    let outcome = result(unsafe { flock(file.as_raw_fd(), FLOCK_EXCLUSIVE | FLOCK_NONBLOCKING) });
    assert!(matches!(outcome, Ok(0) | Err(EAGAIN)), "{outcome:?}");
    std::process::exit(outcome.is_err().into());
}

/// Exits with 1 if another process has locked the byte at `start`.
fn try_lock(path: &str, start: i64) {
    let outcome = lock(&open_rw(path), SETLK, WRITE_LOCK, start, 1);
    let refused = matches!(outcome, Err(EAGAIN | EACCES));
    assert!(outcome.is_ok() || refused);
    std::process::exit(refused.into());
}

/// Takes a lock, creates the file `ready`, and holds the lock until its standard input ends.
fn hold(kind: &str, path: &str, ready: &str) {
    let file = open_rw(path);
    match kind {
        "flock" => assert_eq!(unsafe { flock(file.as_raw_fd(), FLOCK_EXCLUSIVE) }, 0),
        _ => assert!(lock(&file, SETLKW, WRITE_LOCK, 0, 0).is_ok()),
    }
    write(ready, "");
    io::copy(&mut io::stdin(), &mut io::sink()).expect("readable");
}

/// Waits for a lock, and writes to the file while it holds it.
fn wait_lock(path: &str) {
    let mut file = open_rw(path);
    assert!(lock(&file, SETLKW, WRITE_LOCK, 0, 0).is_ok());
    file.write_all(b"locked").expect("written");
}

/// As [`wait_lock`], with `flock`.
fn wait_flock(path: &str) {
    let mut file = open_rw(path);
    assert_eq!(result(unsafe { flock(file.as_raw_fd(), FLOCK_EXCLUSIVE) }), Ok(0));
    file.write_all(b"locked").expect("written");
}

fn wait_for(path: &str) {
    while !Path::new(path).exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn flock_between_processes() {
    let file = open_rw("file");
    assert_eq!(myself(&["--try-flock", "file"]), 0);
    assert_eq!(unsafe { flock(file.as_raw_fd(), FLOCK_EXCLUSIVE) }, 0);
    assert_eq!(myself(&["--try-flock", "file"]), 1);
    // The lock belongs to the description: a duplicate does not release it.
    drop(file.try_clone().expect("duplicated"));
    assert_eq!(myself(&["--try-flock", "file"]), 1);
    drop(file);
    assert_eq!(myself(&["--try-flock", "file"]), 0);
    let mut holder = command(&["--hold", "flock", "file", "ready"]).stdin(Stdio::piped()).spawn().expect("started");
    wait_for("ready");
    assert_eq!(myself(&["--try-flock", "file"]), 1);
    holder.kill().expect("killed");
    holder.wait().expect("ended");
    assert_eq!(myself(&["--try-flock", "file"]), 0);
}

fn record_locks_between_processes() {
    let file = open_rw("file");
    assert!(lock(&file, SETLK, WRITE_LOCK, 10, 10).is_ok());
    assert_eq!([9, 10, 19, 20].map(|at| myself(&["--try-lock", "file", &at.to_string()])), [0, 1, 1, 0]);
    assert!(lock(&file, SETLK, UNLOCK, 15, 1).is_ok());
    assert_eq!([14, 15, 16].map(|at| myself(&["--try-lock", "file", &at.to_string()])), [1, 0, 1]);
    // A lock of the process ends when it closes any descriptor of the file.
    drop(File::open("file").expect("opened"));
    assert_eq!(myself(&["--try-lock", "file", "10"]), 0);
    assert!(lock(&file, SETLK, READ_LOCK, 0, 0).is_ok());
    assert_eq!(myself(&["--try-lock", "file", "10"]), 1);
    // A waiter gets the lock when it is released.
    let mut waiter = command(&["--wait-lock", "file"]).spawn().expect("started");
    assert_eq!(file.metadata().expect("open").len(), 0);
    drop(file);
    assert!(waiter.wait().expect("ended").success());
    assert_eq!(read("file"), "locked");
    let mut holder = command(&["--hold", "record", "file", "ready"]).stdin(Stdio::piped()).spawn().expect("started");
    wait_for("ready");
    let mine = open_rw("file");
    assert_eq!(lock(&mine, GETLK, WRITE_LOCK, 0, 1).map(|lock| lock.kind), Ok(WRITE_LOCK));
    // A waiter can be killed.
    let mut waiter = command(&["--wait-lock", "file"]).spawn().expect("started");
    waiter.kill().expect("killed");
    waiter.wait().expect("ended");
    holder.kill().expect("killed");
    holder.wait().expect("ended");
    assert_eq!(lock(&mine, GETLK, WRITE_LOCK, 0, 1).map(|lock| lock.kind), Ok(UNLOCK));
}

fn locks_of_descriptions() {
    let (one, two) = (open_rw("file"), open_rw("file"));
    assert!(lock(&one, OFD_SETLK, WRITE_LOCK, 0, 0).is_ok());
    assert_eq!(lock(&two, OFD_SETLK, WRITE_LOCK, 0, 0).map(drop), Err(EAGAIN));
    assert_eq!(myself(&["--try-lock", "file", "3"]), 1);
    // Another descriptor of this process does not release it.
    drop(File::open("file").expect("opened"));
    assert_eq!(lock(&two, OFD_SETLK, WRITE_LOCK, 0, 0).map(drop), Err(EAGAIN));
    drop(one);
    // The release of a closed file need not be immediate in a guest.
    while lock(&two, OFD_SETLK, WRITE_LOCK, 0, 0).is_err() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn listing_while_deleting() {
    (0..1500).for_each(|n| write(format!("file-with-a-long-name-{n}"), ""));
    let mut seen = 0;
    for entry in fs::read_dir(".").expect("a directory") {
        fs::remove_file(entry.expect("an entry").path()).expect("removed");
        seen += 1;
    }
    assert_eq!((seen, list(".").len()), (1500, 0));
}

fn names() {
    let long = "n".repeat(255);
    write(&long, "long");
    assert_eq!((list("."), read(&long).as_str()), (vec![long.clone()], "long"));
    fs::rename(&long, "m".repeat(255)).expect("renamed");
    fs::remove_file("m".repeat(255)).expect("removed");
    assert_eq!(error(fs::write("n".repeat(256), "")), ENAMETOOLONG);
    let odd: [&[u8]; 5] = [b"\xff\xfe\x80", b"new\nline", b"-rf *", b" ", b"..."];
    for name in odd {
        write(std::ffi::OsStr::from_bytes(name), "x");
    }
    let mut seen: Vec<_> =
        fs::read_dir(".").expect("a directory").map(|e| e.expect("an entry").file_name().into_vec()).collect();
    seen.sort();
    assert_eq!(seen, [b" ", &b"-rf *"[..], b"...", b"new\nline", b"\xff\xfe\x80"]);
    write("Case", "");
    assert_eq!(error(File::open("case")), ENOENT);
}

fn deep_paths() {
    let start = File::open(".").expect("opened");
    let name = "d".repeat(100);
    for _ in 0..150 {
        fs::create_dir(&name).expect("created");
        std::env::set_current_dir(&name).expect("entered");
    }
    write("bottom", "x");
    assert_eq!(read("bottom"), "x");
    std::env::set_current_dir(format!("/proc/self/fd/{}", start.as_raw_fd())).expect("back");
    fs::remove_dir_all(&name).expect("removed");
}

fn get_xattr(path: &str, name: &str) -> Result<Vec<u8>, i32> {
    let (path, name, mut value) = (c(path), c(name), vec![0; 65_536]);
    let length = result(unsafe { getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr(), value.len()) } as i64)?;
    value.truncate(length as usize);
    Ok(value)
}

fn set_xattr(path: &str, name: &str, value: &[u8], flags: c_int) -> Result<i64, i32> {
    let (path, name) = (c(path), c(name));
    result(unsafe { setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr(), value.len(), flags) })
}

fn attributes_of_users() {
    write("file", "");
    assert_eq!(get_xattr("file", "user.none"), Err(ENODATA));
    assert_eq!(set_xattr("file", "user.a", b"value \0 \xff", 0), Ok(0));
    assert_eq!(get_xattr("file", "user.a"), Ok(b"value \0 \xff".to_vec()));
    assert_eq!(set_xattr("file", "user.a", b"", 1), Err(EEXIST));
    assert_eq!(set_xattr("file", "user.b", b"", 2), Err(ENODATA));
    assert_eq!(set_xattr("file", "user.b", &[7; 2000], 0), Ok(0));
    assert_eq!(get_xattr("file", "user.b").map(|value| value.len()), Ok(2000));
    let mut names = vec![0; 1000];
    let length = unsafe { listxattr(c("file").as_ptr(), names.as_mut_ptr(), names.len()) };
    let mut names: Vec<_> = names[..length as usize].split(|b| *b == 0).filter(|n| !n.is_empty()).collect();
    names.sort();
    assert_eq!(names, [b"user.a", b"user.b"]);
    assert_eq!(unsafe { removexattr(c("file").as_ptr(), c("user.a").as_ptr()) }, 0);
    assert_eq!(get_xattr("file", "user.a"), Err(ENODATA));
    assert!(matches!(set_xattr("file", "no-namespace", b"", 0), Err(EOPNOTSUPP)));
}

fn modes() {
    write("file", "");
    for mode in [0o000, 0o777, 0o6755, 0o1644, 0o640] {
        fs::set_permissions("file", fs::Permissions::from_mode(mode)).expect("changed");
        assert_eq!(stat("file").mode() & 0o7777, mode);
    }
    unsafe { umask(0) };
    fs::DirBuilder::new().mode(0o1770).create("dir").expect("created");
    assert_eq!(stat("dir").mode() & 0o7777, 0o1770);
    drop(OpenOptions::new().write(true).create(true).mode(0o604).open("new").expect("created"));
    assert_eq!(stat("new").mode() & 0o7777, 0o604);
    assert_eq!((stat("file").uid(), stat("file").gid()), (stat(".").uid(), stat(".").gid()));
}

fn set_times(path: &str, times: [i64; 4]) {
    assert_eq!(result(unsafe { utimensat(AT_FDCWD, c(path).as_ptr(), &raw const times, 0x100) }), Ok(0));
}

fn times() {
    const OMIT: i64 = (1 << 30) - 2;
    write("file", "");
    set_times("file", [1_000_000_000, 123_456_789, 981_173_106, 987_654_321]);
    let seen = stat("file");
    assert_eq!((seen.atime(), seen.atime_nsec()), (1_000_000_000, 123_456_789));
    assert_eq!((seen.mtime(), seen.mtime_nsec()), (981_173_106, 987_654_321));
    set_times("file", [0, OMIT, -1, 0]);
    assert_eq!((stat("file").atime(), stat("file").mtime()), (1_000_000_000, -1));
    set_times("file", [0, OMIT, 8_589_934_592, 0]);
    assert_eq!(stat("file").mtime(), 8_589_934_592);
    symlink("file", "link").expect("linked");
    set_times("link", [5, 0, 6, 0]);
    assert_eq!((stat("link").mtime(), stat("file").mtime()), (6, 8_589_934_592));
    let (before, dir) = (stat("file").ctime_nsec(), stat(".").mtime());
    std::thread::sleep(std::time::Duration::from_millis(20));
    write("file", "x");
    assert!(stat("file").mtime() < 8_589_934_592 && stat("file").ctime_nsec() != before && dir > 981_173_106);
}

fn pipes_and_sockets() {
    assert_eq!(unsafe { mkfifo(c("pipe").as_ptr(), 0o600) }, 0);
    let writer = std::thread::spawn(|| fs::write("pipe", "through the pipe"));
    assert_eq!(read("pipe"), "through the pipe");
    writer.join().expect("joined").expect("written");
    let listener = UnixListener::bind("socket").expect("bound");
    let mut client = UnixStream::connect("socket").expect("connected");
    client.write_all(b"hello").expect("written");
    drop(client);
    let mut text = String::new();
    listener.accept().expect("accepted").0.read_to_string(&mut text).expect("read");
    assert_eq!(text, "hello");
}

fn symbolic_links() {
    symlink("target", "link").expect("linked");
    assert_eq!(fs::read_link("link").expect("a link"), Path::new("target"));
    assert_eq!(error(fs::read("link")), ENOENT);
    write("link", "through");
    assert_eq!(read("target"), "through");
    let long = "x/".repeat(2000);
    symlink(&long, "long").expect("linked");
    assert_eq!(fs::read_link("long").expect("a link"), Path::new(&long));
    symlink("loop", "loop").expect("linked");
    assert_eq!(error(fs::read("loop")), 40);
    fs::rename("link", "renamed").expect("renamed");
    assert!(stat("renamed").is_symlink());
}

fn filesystem_size() {
    let mut size = [0; 16];
    assert_eq!(unsafe { statvfs(c(".").as_ptr(), &raw mut size) }, 0);
    let [block, fragment, blocks, free, available, ..] = size;
    assert!(block >= 512 && fragment >= 512 && blocks > 0 && free <= blocks && available <= free, "{size:?}");
    assert_eq!(size[10], 255, "the longest name");
}

/// Changes a file through a mapping.
fn map_fill(path: &str) {
    let file = open_rw(path);
    file.set_len(1 << 20).expect("extended");
    let bytes = map(&file, 1 << 20, 3, 1);
    bytes.fill(b'm');
    assert_eq!(unsafe { msync(bytes.as_mut_ptr().cast(), bytes.len(), 4) }, 0);
    // Not synchronised: unmapping and closing must suffice.
    bytes[0] = b'M';
    unmap(bytes);
}

fn make_many(count: u32) {
    for n in 0..count {
        if n % 1000 == 0 {
            fs::create_dir(format!("{}", n / 1000)).expect("created");
        }
        fs::write(format!("{}/{n}", n / 1000), n.to_string()).expect("written");
    }
}

/// Prints the number of files below the directory, and the sums of their inode numbers, sizes and first bytes.
fn walk() {
    let (mut files, mut inodes, mut bytes) = (0u64, 0u64, 0u64);
    let mut directories = vec![".".into()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let entry = entry.expect("an entry");
            let found = entry.metadata().expect("it exists");
            if found.is_dir() {
                directories.push(entry.path());
                continue;
            }
            (files, bytes) = (files + 1, bytes + found.len());
            inodes = inodes.wrapping_add(found.ino());
        }
    }
    println!("{files} {inodes} {bytes}");
}

/// Bytes that depend on their place.
fn pattern(block: u64) -> Vec<u8> {
    let mut state = block.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(1 << 20);
    while bytes.len() < 1 << 20 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

fn fill(path: &str, mib: u64) {
    let mut file = File::create(path).expect("created");
    (0..mib).for_each(|block| file.write_all(&pattern(block)).expect("written"));
}

/// A digest of a file's content that is cheap under emulation.
fn digest(path: &str) -> u64 {
    let mut file = File::open(path).expect("opened");
    let (mut block, mut digest) = (vec![0; 1 << 20], 0u64);
    loop {
        let mut filled = 0;
        while filled < block.len() {
            match file.read(&mut block[filled..]).expect("read") {
                0 => break,
                read => filled += read,
            }
        }
        for word in block[..filled].chunks(8) {
            let mut bytes = [0; 8];
            bytes[..word.len()].copy_from_slice(word);
            digest = digest.rotate_left(5).wrapping_add(u64::from_le_bytes(bytes)).wrapping_mul(0x100_0000_01b3);
        }
        if filled < block.len() {
            return digest;
        }
    }
}
