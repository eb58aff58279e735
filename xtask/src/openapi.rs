//! `cargo xtask openapi`: writes docs/reference/openapi.json.

use std::path::Path;

use anyhow::Context;
use mimeo_engine::{Engine, Home};

/// The document, from the workspace's root.
const FILE: &str = "docs/reference/openapi.json";

/// Writes the document of the manager's API.
pub(crate) fn run() -> anyhow::Result<()> {
    let dir = tempfile::tempdir().context("cannot make a directory")?;
    let engine = Engine::new(Home::at(dir.path().join("home"), dir.path().join("run"))?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let document = runtime.block_on(mimeo_manager::api_document(engine))?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(FILE);
    std::fs::write(&path, document).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {FILE}");
    Ok(())
}
