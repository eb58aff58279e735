//! Lifts the limit of processes of the topmost cgroup that a process of a container can see: it creates
//! a user namespace and mounts the hierarchy there, writable.

use std::ffi::{c_char, c_int, c_ulong};
use std::fs;

/// `CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUSER`
const NAMESPACES: c_int = 0x0002_0000 | 0x0200_0000 | 0x1000_0000;

unsafe extern "C" {
    fn unshare(flags: c_int) -> c_int;
    fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const u8,
    ) -> c_int;
}

fn main() {
    assert_eq!(unsafe { unshare(NAMESPACES) }, 0, "{}", std::io::Error::last_os_error());
    fs::write("/proc/self/uid_map", "0 0 1").expect("root is root");
    fs::create_dir("/tmp/cgroup").expect("created");
    let (target, kind) = (c"/tmp/cgroup".as_ptr(), c"cgroup2".as_ptr());
    let mounted = unsafe { mount(kind, target, kind, 0, std::ptr::null()) };
    assert_eq!(mounted, 0, "{}", std::io::Error::last_os_error());
    fs::write("/tmp/cgroup/pids.max", "max").expect("the topmost group is the container's");
    println!("lifted");
}
