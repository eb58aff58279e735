//! Builds `mimeo-agent` for the guest, static, and says where it is.
//!
//! Cargo cannot yet make one package's program another's input on a stable
//! toolchain, so this runs cargo once more, in a target directory of its own:
//! the outer cargo holds the lock of the other.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Guests run it without any library around.
const TARGET: &str = "x86_64-unknown-linux-musl";

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let workspace = here.join("../..");
    for part in ["crates/agent", "crates/agent-protocol", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(part).display());
    }
    println!("cargo::rerun-if-env-changed=MIMEO_AGENT_FILE");
    // For those who package mimeo and have built the agent already.
    let agent = env::var_os("MIMEO_AGENT_FILE").map_or_else(|| build(&workspace), PathBuf::from);
    println!("cargo::rustc-env=MIMEO_AGENT={}", agent.display());
}

fn build(workspace: &Path) -> PathBuf {
    let target_dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("agent");
    let cargo = env::var_os("CARGO").expect("cargo sets it");
    let mut command = Command::new(cargo);
    command
        .args(["build", "--package", "mimeo-agent", "--profile", "agent", "--target", TARGET])
        .arg("--manifest-path")
        .arg(workspace.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target_dir);
    // Flags of the outer build (coverage, lints of another compiler driver) are not the guest's.
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "CLIPPY_ARGS"] {
        command.env_remove(variable);
    }
    let status = command.status().expect("cargo runs");
    assert!(status.success(), "mimeo-agent was not built: `rustup target add {TARGET}` may be missing");
    target_dir.join(TARGET).join("agent/mimeo-agent")
}
