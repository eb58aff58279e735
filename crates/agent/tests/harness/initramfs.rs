//! The initramfs that the agent expects: itself, modules, and their order.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::run;

const EAGER: [&str; 5] = ["virtio_mmio", "virtio_console", "virtio_blk", "virtio_net", "overlay"];
/// The modules that are loaded on demand.
pub const LAZY: &[&str] = &["fuse", "tcp_diag"];

/// Writes the archive.
pub fn pack(target: &Path, modules: &Path, lazy: &[&str]) {
    let tree = ModuleTree::walk(modules);
    let (eager, lazy) = (tree.in_order(&EAGER), tree.in_order(lazy));
    let mut archive = Archive(Vec::new());
    archive.add("init", 0o100_755, &std::fs::read(agent()).expect("the agent"));
    archive.add("modules", 0o040_755, b"");
    for path in eager.iter().chain(&lazy) {
        archive.add(
            &format!("modules/{}", file_name(path)),
            0o100_644,
            &std::fs::read(path).expect("a module"),
        );
    }
    archive.add("modules.eager", 0o100_644, list(&eager).as_bytes());
    archive.add("modules.lazy", 0o100_644, list(&lazy).as_bytes());
    archive.add("TRAILER!!!", 0, b"");
    std::fs::File::create(target).and_then(|mut file| file.write_all(&archive.0)).expect("writes");
}

/// The agent as it is shipped: static, and optimised for size.
pub fn agent() -> PathBuf {
    static AGENT: OnceLock<PathBuf> = OnceLock::new();
    const TARGET: &str = "x86_64-unknown-linux-musl";
    AGENT
        .get_or_init(|| {
            let target_directory =
                Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a target directory");
            run(Command::new(env!("CARGO"))
                .args(["build", "--quiet", "-p", "mimeo-agent", "--profile", "agent", "--target", TARGET])
                .arg("--target-dir")
                .arg(target_directory)
                .current_dir(env!("CARGO_MANIFEST_DIR")));
            target_directory.join(TARGET).join("agent/mimeo-agent")
        })
        .clone()
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| file_name(path) + "\n").collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

/// An archive in the format that the kernel unpacks: "newc".
struct Archive(Vec<u8>);

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        let inode = self.0.len();
        let (size, name_size) = (content.len(), name.len() + 1);
        let zero = 0;
        let header = format!(
            "070701{inode:08x}{mode:08x}{zero:08x}{zero:08x}{:08x}{zero:08x}{size:08x}{zero:08x}{zero:08x}{zero:08x}{zero:08x}{name_size:08x}{zero:08x}",
            1
        );
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(0);
        self.pad();
        self.0.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// All module files of a kernel.
struct ModuleTree(Vec<PathBuf>);

impl ModuleTree {
    fn walk(directory: &Path) -> Self {
        let mut found = Vec::new();
        let mut rest = vec![directory.to_owned()];
        while let Some(directory) = rest.pop() {
            for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => rest.push(entry.path()),
                    _ => found.push(entry.path()),
                }
            }
        }
        Self(found)
    }

    /// The modules and their dependencies, each after its dependencies.
    fn in_order(&self, names: &[&str]) -> Vec<PathBuf> {
        let mut order = Vec::new();
        names.iter().for_each(|name| self.visit(name, &mut order));
        order
    }

    fn visit(&self, name: &str, order: &mut Vec<PathBuf>) {
        let named = |path: &&PathBuf| {
            path.file_stem().is_some_and(|stem| stem.to_string_lossy().replace('-', "_") == name)
        };
        let path = self.0.iter().find(named).unwrap_or_else(|| panic!("the kernel has no module {name}"));
        if order.contains(path) {
            return;
        }
        depends(&std::fs::read(path).expect("a module")).iter().for_each(|name| self.visit(name, order));
        order.push(path.clone());
    }
}

/// The dependencies of a module.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let at =
        module.windows(KEY.len()).position(|window| window == KEY).expect("a module lists its dependencies");
    let value = module[at + KEY.len()..].split(|byte| *byte == 0).next().expect("a string");
    let text = String::from_utf8_lossy(value).replace('-', "_");
    text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}
