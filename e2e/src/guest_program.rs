//! Small static programs for guests that busybox does not provide, and libraries for programs on the host.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::sha256;

/// The arguments of rustc for a static program.
const GUEST_PROGRAM: [&str; 2] = ["--target", "x86_64-unknown-linux-musl"];
/// The arguments of rustc for a library that the dynamic linker loads.
const HOST_LIBRARY: [&str; 2] = ["--crate-type", "cdylib"];

/// Compiles `e2e/guests/NAME.rs`, unless another test has, and returns the program's bytes.
#[must_use]
pub fn guest_program(name: &str) -> Vec<u8> {
    std::fs::read(compiled(name, GUEST_PROGRAM)).expect("rustc wrote the program")
}

/// Compiles `e2e/guests/NAME.rs`, unless another test has, and returns the library's path.
pub(crate) fn host_library(name: &str) -> PathBuf {
    compiled(name, HOST_LIBRARY)
}

fn compiled(name: &str, arguments: [&str; 2]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests").join(format!("{name}.rs"));
    let digest = sha256(&std::fs::read(&source).expect("a source file"));
    let own = std::env::current_exe().expect("this program has a path");
    let dir = own.with_file_name("guests");
    let compiled = dir.join(format!("{name}-{}", &digest[..16]));
    if !compiled.exists() {
        std::fs::create_dir_all(&dir).expect("the target directory is writable");
        compile(&source, arguments, &dir, &compiled);
    }
    compiled
}

/// Tests may compile the same program at the same time: each result is complete when it appears under its name.
fn compile(source: &Path, arguments: [&str; 2], dir: &Path, compiled: &Path) {
    let temporary = tempfile::Builder::new().tempdir_in(dir).expect("a directory");
    let program = temporary.path().join("program");
    let output = Command::new("rustc")
        .args(["--edition", "2024", "-O"])
        .args(arguments)
        .arg("-o")
        .args([program.as_path(), source])
        .output()
        .expect("rustc starts");
    assert!(output.status.success(), "rustc: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::rename(program, compiled).expect("renamed");
}
