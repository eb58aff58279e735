//! Small static programs for guests that busybox does not provide.

use std::path::Path;
use std::process::Command;

/// Compiles `e2e/guests/NAME.rs` and returns the program's bytes.
#[must_use]
pub fn guest_program(name: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a directory");
    let program = dir.path().join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests").join(format!("{name}.rs"));
    let output = Command::new("rustc")
        .args(["--edition", "2024", "--target", "x86_64-unknown-linux-musl", "-O", "-o"])
        .args([&program, &source])
        .output()
        .expect("rustc starts");
    assert!(output.status.success(), "rustc: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(program).expect("rustc wrote the program")
}
