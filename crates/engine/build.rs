//! Builds `mimeo-agent` for the guest, statically linked, and sets MIMEO_AGENT to its path.
//!
//! Stable cargo cannot use one package's program as an input of another yet, so this runs a second cargo, with its own
//! target directory: the outer cargo holds the lock of the other one.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Guests have no libraries, so the agent is linked statically.
const TARGET: &str = "x86_64-unknown-linux-musl";

fn main() {
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let workspace = manifest_dir.join("../..");
    for part in ["crates/agent", "crates/agent-protocol", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(part).display());
    }
    println!("cargo::rerun-if-env-changed=MIMEO_AGENT_FILE");
    // For packagers who have built the agent already.
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
    // Flags of the outer build (coverage, lints of another compiler driver) do not apply to the guest's program.
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "CLIPPY_ARGS"] {
        command.env_remove(variable);
    }
    let status = command.status().expect("cargo runs");
    assert!(status.success(), "cannot build mimeo-agent: try `rustup target add {TARGET}`");
    target_dir.join(TARGET).join("agent/mimeo-agent")
}
