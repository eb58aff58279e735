//! What /proc shows of a process.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// `pos`, `flags` and locks of each descriptor. The numbers in a lock's line that differ by process or file are left out.
pub(crate) fn descriptors(pid: u32) -> BTreeMap<i32, Vec<String>> {
    let dir = format!("/proc/{pid}/fdinfo");
    let numbers = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name());
    let numbers = numbers.map(|name| name.to_str().unwrap().parse::<i32>().unwrap());
    numbers
        .map(|number| (number, descriptor(&fs::read_to_string(format!("{dir}/{number}")).unwrap())))
        .collect()
}

fn descriptor(info: &str) -> Vec<String> {
    let shown = ["pos:", "flags:", "eventfd-count:", "eventfd-semaphore:", "sigmask:"];
    let plain = info.lines().filter(|line| shown.iter().any(|name| line.starts_with(name)));
    let locks = info.lines().filter(|line| line.starts_with("lock:")).map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        [words[2], words[4], words[7], words[8]].join(" ")
    });
    plain.map(str::to_owned).chain(locks).collect()
}

/// The access mode of the open file at `path`, from its descriptor's flags: 0 is read-only, 2 read and write.
pub(crate) fn access(pid: u32, path: &Path) -> i32 {
    let mut links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|entry| entry.unwrap().path());
    let number = links.find(|link| fs::read_link(link).is_ok_and(|target| target == path)).unwrap();
    let info = format!("/proc/{pid}/fdinfo/{}", number.file_name().unwrap().to_str().unwrap());
    let info = fs::read_to_string(info).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    i32::from_str_radix(flags.trim(), 8).unwrap() & 3
}

/// The flags of the mapping at an address, without the kernel's bookkeeping flags.
pub(crate) fn mapping_flags(pid: u32, address: &str) -> Vec<String> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut lines = smaps.lines().skip_while(|line| !line.starts_with(&format!("{address}-")));
    let flags = lines.find_map(|line| line.strip_prefix("VmFlags:")).unwrap();
    let flags = flags.split_whitespace().filter(|flag| !["ac", "nr", "sd"].contains(flag));
    flags.map(str::to_owned).collect()
}
