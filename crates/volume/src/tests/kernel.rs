//! File operations of programs, through a real kernel.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

use rustix::fs::{FallocateFlags, RenameFlags, XattrFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::mounted::{Mounted, in_namespace, shell};
use crate::limits::Limits;

fn raw_error<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn files_are_created_renamed_and_removed() {
    in_namespace(|| {
        let volume = Mounted::new(false);
        fs::write(volume.guest("a"), "hello").expect("write");
        assert_eq!(fs::read_to_string(volume.host("a")).expect("on the host"), "hello");
        fs::rename(volume.guest("a"), volume.guest("b")).expect("rename");
        fs::hard_link(volume.guest("b"), volume.guest("c")).expect("link");
        assert_eq!(fs::metadata(volume.guest("b")).expect("b").nlink(), 2);
        symlink("b", volume.guest("link")).expect("symlink");
        assert_eq!(fs::read_to_string(volume.guest("link")).expect("through the link"), "hello");
        fs::create_dir(volume.guest("dir")).expect("mkdir");
        fs::rename(volume.guest("c"), volume.guest("dir/c")).expect("into the directory");
        assert_eq!(raw_error(fs::remove_dir(volume.guest("dir"))), Some(Errno::NOTEMPTY.raw_os_error()));
        let flags = RenameFlags::EXCHANGE;
        let (dir, b) = (volume.guest("dir"), volume.guest("b"));
        rustix::fs::renameat_with(rustix::fs::CWD, &dir, rustix::fs::CWD, &b, flags).expect("exchange");
        assert_eq!(fs::read_to_string(volume.guest("b/c")).expect("exchanged"), "hello");
        fs::remove_dir_all(volume.guest("b")).expect("remove");
        let mut open = File::open(volume.guest("dir")).expect("open");
        fs::remove_file(volume.guest("dir")).expect("unlink while it is open");
        let mut text = String::new();
        open.read_to_string(&mut text).expect("read what is unlinked");
        assert_eq!((text.as_str(), open.metadata().expect("stat").nlink()), ("hello", 0));
        assert_eq!(fs::read_dir(volume.host("")).expect("list").count(), 1);
    });
}

#[test]
fn modes_owners_and_times_are_kept() {
    in_namespace(|| {
        let volume = Mounted::new(false);
        shell(
            &volume.guest(""),
            "umask 0; touch open; mkdir -m 1777 sticky; umask 077; touch closed; mkfifo -m 666 pipe",
        );
        let mode = |name| fs::symlink_metadata(volume.host(name)).expect("stat").mode() & 0o7777;
        assert_eq!(["open", "sticky", "closed", "pipe"].map(mode), [0o666, 0o1777, 0o600, 0o666]);
        fs::set_permissions(volume.guest("open"), Permissions::from_mode(0o751)).expect("chmod");
        assert_eq!(mode("open"), 0o751);
        shell(
            &volume.guest(""),
            "touch -d '2001-02-03 04:05:06 UTC' open; ln -s nowhere link; touch -h -d @7 link",
        );
        assert_eq!(fs::metadata(volume.host("open")).expect("open").mtime(), 981_173_106);
        assert_eq!(fs::symlink_metadata(volume.host("link")).expect("link").mtime(), 7);
        shell(&volume.guest(""), "chmod 6755 open; echo x >> open");
        assert_eq!(volume.guest("open").metadata().expect("open").mode() & 0o777, 0o755);
    });
}

#[test]
fn content_is_kept() {
    in_namespace(|| {
        let volume = Mounted::new(false);
        shell(&volume.guest(""), "head -c 20000000 /dev/urandom > big; cp big second; cmp big second");
        let sum = "sha256sum < big";
        assert_eq!(shell(&volume.guest(""), sum), shell(&volume.host(""), sum));
        shell(&volume.guest(""), "truncate -s 5 big; printf ab >> big; printf xy >> big");
        assert_eq!(fs::read(volume.host("big")).expect("big")[5..], *b"abxy");
        let mut append = OpenOptions::new().append(true).open(volume.guest("second")).expect("open");
        OpenOptions::new()
            .append(true)
            .open(volume.host("second"))
            .expect("open")
            .write_all(b"host")
            .expect("append");
        append.write_all(b"guest").expect("append");
        assert!(fs::read(volume.host("second")).expect("second").ends_with(b"hostguest"));
        fs::write(volume.guest("big"), "").expect("truncate on open");
        assert_eq!(fs::metadata(volume.host("big")).expect("big").len(), 0);
    });
}

#[test]
fn sparse_files_stay_sparse() {
    in_namespace(|| {
        let volume = Mounted::new(false);
        let file = File::create_new(volume.guest("sparse")).expect("create");
        file.write_all_at(b"end", 10 << 20).expect("write");
        let host = || fs::metadata(volume.host("sparse")).expect("sparse");
        assert!(host().blocks() < 100, "{}", host().blocks());
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 1 << 20).expect("allocate");
        assert!(host().blocks() >= 2048);
        let mut reader = File::open(volume.guest("sparse")).expect("open");
        let data = rustix::fs::seek(&reader, rustix::fs::SeekFrom::Data(1 << 20));
        assert_eq!(data, Ok(10 << 20));
        reader.seek(SeekFrom::End(-3)).expect("seek");
        let mut end = [0; 3];
        reader.read_exact(&mut end).expect("read");
        assert_eq!(&end, b"end");
    });
}

#[test]
fn a_long_directory_is_listed_completely() {
    in_namespace(|| {
        let volume = Mounted::with(false, Limits { known_inodes: 10_000, held_fds: 64, open_files: 10 });
        for number in 0..2000 {
            fs::write(volume.host(&format!("file-{number}")), "x").expect("write");
        }
        assert_eq!(shell(&volume.guest(""), "ls -f | wc -l"), "2002");
        assert_eq!(shell(&volume.guest(""), "ls -l | wc -l; cat * | wc -c"), "2001\n2000");
        assert!(volume.server.inodes.held_count() <= 64);
        shell(&volume.guest(""), "rm file-1*");
        assert_eq!(fs::read_dir(volume.host("")).expect("list").count(), 889);
        shell(&volume.guest(""), "rm *");
    });
}

#[test]
fn programs_run_and_memory_is_mapped() {
    in_namespace(|| {
        let volume = Mounted::new(false);
        shell(
            &volume.guest(""),
            "cp \"$(command -v ls)\" ./own; ./own -l > list; ./own -l >> list; test -s list",
        );
        // Programs are mapped, and a linker writes through a mapping.
        let script = "import mmap,os\nf=open('map','w+b');f.truncate(8192);m=mmap.mmap(f.fileno(),8192)\nm[4096:4099]=b'abc';m.flush();m.close();f.close()";
        match std::process::Command::new("python3")
            .args(["-c", script])
            .current_dir(volume.guest(""))
            .status()
        {
            Ok(status) => {
                assert!(status.success());
                assert_eq!(fs::read(volume.host("map")).expect("map")[4096..4099], *b"abc");
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound),
        }
    });
}

#[test]
fn user_xattrs_are_kept() {
    in_namespace(|| {
        let volume = Mounted::new(false);
        fs::write(volume.guest("file"), "x").expect("write");
        let (guest, host) = (volume.guest("file"), volume.host("file"));
        rustix::fs::setxattr(&guest, "user.colour", b"red", XattrFlags::CREATE).expect("set");
        let mut value = [0; 16];
        assert_eq!(rustix::fs::getxattr(&host, "user.colour", &mut value), Ok(3));
        let mut list = [0; 64];
        assert_eq!(rustix::fs::listxattr(&guest, &mut list), Ok(12));
        assert_eq!(&list[..12], b"user.colour\0");
        rustix::fs::removexattr(&guest, "user.colour").expect("remove");
        assert_eq!(rustix::fs::getxattr(&guest, "user.colour", &mut value), Err(Errno::NODATA));
    });
}

#[test]
fn changes_on_the_host_are_seen() {
    in_namespace(|| {
        let volume = Mounted::new(false);
        fs::write(volume.host("file"), "old").expect("write");
        assert_eq!(fs::read_to_string(volume.guest("file")).expect("read"), "old");
        fs::write(volume.host("file"), "new and longer").expect("write");
        assert_eq!(fs::read_to_string(volume.guest("file")).expect("read"), "new and longer");
        assert!(!volume.guest("later").exists());
        fs::write(volume.host("later"), "x").expect("write");
        fs::remove_file(volume.host("file")).expect("remove");
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert!(volume.guest("later").exists());
        assert!(!volume.guest("file").exists());
    });
}

#[test]
fn a_read_only_volume_refuses_changes() {
    in_namespace(|| {
        let volume = Mounted::new(true);
        fs::write(volume.host("file"), "text").expect("write");
        assert_eq!(fs::read_to_string(volume.guest("file")).expect("read"), "text");
        let refused = Some(Errno::ROFS.raw_os_error());
        assert_eq!(raw_error(fs::write(volume.guest("file"), "x")), refused);
        assert_eq!(raw_error(fs::write(volume.guest("new"), "x")), refused);
        assert_eq!(raw_error(fs::remove_file(volume.guest("file"))), refused);
        assert_eq!(raw_error(fs::create_dir(volume.guest("dir"))), refused);
    });
}

/// Like git, which links a temporary file to its final name and removes the temporary one.
#[test]
fn linked_files_without_their_first_name_take_no_descriptors() {
    in_namespace(|| {
        let limits = Limits { known_inodes: 1000, held_fds: 30, open_files: 100 };
        let volume = Mounted::with(false, limits);
        for number in 0..100 {
            fs::write(volume.guest("temporary"), number.to_string()).expect("write");
            fs::hard_link(volume.guest("temporary"), volume.guest(&number.to_string())).expect("link");
            fs::remove_file(volume.guest("temporary")).expect("remove");
        }
        for number in 0..100 {
            let text = fs::read_to_string(volume.guest(&number.to_string())).expect("read");
            assert_eq!(text, number.to_string());
        }
    });
}

/// The clock of the host's kernel may not have advanced between two writes, so both leave the same times.
#[test]
fn a_change_within_one_tick_of_the_clock_is_seen() {
    in_namespace(|| {
        let volume = Mounted::new(false);
        for number in 100..400 {
            fs::write(volume.host("file"), number.to_string()).expect("write");
            assert_eq!(fs::read_to_string(volume.guest("file")).expect("read"), number.to_string());
        }
    });
}

#[test]
fn the_size_is_that_of_the_filesystem_of_the_file() {
    in_namespace(|| {
        let volume = Mounted::new(false);
        fs::create_dir(volume.host("small")).expect("mkdir");
        let options = c"size=1M";
        rustix::mount::mount("none", volume.host("small"), "tmpfs", MountFlags::empty(), options)
            .expect("mount");
        let size = rustix::fs::statvfs(volume.guest("small")).expect("statvfs");
        assert_eq!(size.f_blocks * size.f_frsize, 1 << 20);
    });
}
