//! Measures a filesystem in the working directory; prints the name and the milliseconds of each measurement.
//! Arguments: MiB of the large file, number of small files.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::time::Instant;

const CHUNK: usize = 1 << 20;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse().expect("a number"));
    let (mib, files): (usize, usize) = (arguments.next().expect("MiB"), arguments.next().expect("files"));
    measure("write", || write(mib));
    measure("read", || read(mib));
    fs::remove_file("large").expect("removed");
    fs::create_dir("small").expect("created");
    std::env::set_current_dir("small").expect("entered");
    let each = |work: fn(String)| move || (0..files).for_each(|n| work(format!("file-{n}")));
    measure("create", each(|name| fs::write(name, [7; 100]).expect("written")));
    measure("list", || assert_eq!(fs::read_dir(".").expect("readable").count(), files));
    measure("stat", each(|name| assert_eq!(fs::metadata(name).expect("it exists").len(), 100)));
    measure("open", each(|name| assert_eq!(fs::read(name).expect("readable").len(), 100)));
    measure("rename", each(|name| fs::rename(&name, format!("new-{name}")).expect("renamed")));
    measure("unlink", each(|name| fs::remove_file(format!("new-{name}")).expect("removed")));
    std::env::set_current_dir("..").expect("left");
    fs::remove_dir("small").expect("removed");
}

fn measure(name: &str, work: impl FnOnce()) {
    let begun = Instant::now();
    work();
    println!("{name} {:.3}", begun.elapsed().as_secs_f64() * 1000.0);
}

fn write(mib: usize) {
    let (mut file, chunk) = (File::create("large").expect("created"), vec![7; CHUNK]);
    (0..mib).for_each(|_| file.write_all(&chunk).expect("written"));
}

fn read(mib: usize) {
    let (mut file, mut chunk) = (File::open("large").expect("opened"), vec![0; CHUNK]);
    (0..mib).for_each(|_| file.read_exact(&mut chunk).expect("readable"));
}
