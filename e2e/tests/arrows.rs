//! Checks ARCHITECTURE.md against the source tree.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The allowed dependencies between mimeo's crates.
const ARROWS: [(&str, &[&str]); 16] = [
    ("agent", &["agent-protocol"]),
    ("agent-protocol", &[]),
    ("base", &[]),
    ("checkpoint", &[]),
    ("cli", &["agent-protocol", "base", "engine", "image", "manager", "manager-api", "net", "setup", "vmm"]),
    ("engine", &["agent-protocol", "base", "image", "net", "pager", "seed", "setup", "vmm", "volume"]),
    ("fake-firecracker", &["pager", "vmm"]),
    ("image", &[]),
    ("manager", &["agent-protocol", "engine", "image", "manager-api", "net", "volume"]),
    ("manager-api", &[]),
    ("net", &[]),
    ("pager", &[]),
    ("seed", &[]),
    ("setup", &["net", "vmm"]),
    ("vmm", &["checkpoint"]),
    ("volume", &["agent-protocol"]),
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn crates_depend_only_on_crates_that_the_map_allows() {
    let crates: BTreeSet<String> = fs::read_dir(workspace().join("crates"))
        .expect("readable")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let drawn: BTreeSet<String> = ARROWS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(crates, drawn, "a crate was added or removed: ARCHITECTURE.md must show it");
    for (name, allowed) in ARROWS {
        let manifest =
            fs::read_to_string(workspace().join("crates").join(name).join("Cargo.toml")).expect("read");
        let used =
            manifest.lines().filter_map(|line| line.strip_prefix("mimeo-")?.split(['.', ' ', '=']).next());
        for used in used {
            assert!(
                allowed.contains(&used),
                "{name} -> {used} is not a dependency that ARCHITECTURE.md shows"
            );
        }
    }
}

#[test]
fn pages_name_files_that_exist() {
    for page in ["ARCHITECTURE.md", "COMPATIBILITY.md", "docs/reference/glossary.md"] {
        let text = fs::read_to_string(workspace().join(page)).expect("read");
        let quoted = text.split('`').skip(1).step_by(2);
        let files =
            quoted.filter(|word| ["crates/", "e2e/", "xtask/"].iter().any(|top| word.starts_with(top)));
        for file in files {
            assert!(workspace().join(file).exists(), "{page} names {file}, which does not exist");
        }
    }
}
