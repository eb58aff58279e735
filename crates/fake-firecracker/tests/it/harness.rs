//! Machines for tests, on the fake and on a real Firecracker.

use std::cell::RefCell;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use mimeo_fake_firecracker::guest;
use mimeo_fake_firecracker::settings::Settings;
use mimeo_vmm::firecracker::Firecracker;
use mimeo_vmm::{
    Accelerator, Disk, DiskFormat, Driver, Instance, LaunchSpec, RestoreError, SaveKind, SavedMachine,
};
use tempfile::TempDir;

/// Names a real Firecracker.
const REAL_FIRECRACKER: &str = "MIMEO_FIRECRACKER";
/// The most that one test may take, on a very busy host.
const TEST_TIMEOUT: Duration = Duration::from_secs(120);
/// The polling interval.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Memory size of all machines here.
pub(crate) const MEMORY_MIB: u32 = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Implementation {
    Fake,
    Real,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Jailed {
    No,
    Yes,
}

/// A directory for machines, and the driver that runs them.
pub(crate) struct Bench {
    pub(crate) implementation: Implementation,
    pub(crate) jailed: Jailed,
    pub(crate) driver: Firecracker,
    pub(crate) program: PathBuf,
    pub(crate) dir: TempDir,
    /// All started processes, with their start times.
    processes: RefCell<Vec<(u32, String)>>,
}

type Body = for<'a> fn(&'a Bench) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Runs a test body if this host can, and checks that nothing is left.
pub(crate) fn run(implementation: Implementation, jailed: Jailed, body: Body) {
    let Some(bench) = Bench::new(implementation, jailed) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(TEST_TIMEOUT, body(&bench)).await.expect("in time") });
    drop(runtime);
    bench.check_nothing_is_left();
}

impl Bench {
    pub(crate) fn new(implementation: Implementation, jailed: Jailed) -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("mimeo-fc-").tempdir().expect("a directory");
        fs::write(dir.path().join("kernel"), guest::elf()).expect("written");
        fs::write(dir.path().join("initramfs"), [0; 4096]).expect("written");
        fs::write(dir.path().join("image"), [1; 8192]).expect("written");
        Self::with_directory(implementation, jailed, dir)
    }

    fn with_directory(implementation: Implementation, jailed: Jailed, dir: TempDir) -> Option<Self> {
        let program = match implementation {
            Implementation::Fake => PathBuf::from(env!("CARGO_BIN_EXE_fake-firecracker")),
            Implementation::Real => real_program()?,
        };
        let driver = driver(implementation, jailed, &program)?;
        Some(Self { implementation, jailed, driver, program, dir, processes: RefCell::default() })
    }

    /// A machine in its own directory.
    pub(crate) fn spec(&self, name: &str) -> LaunchSpec {
        let dir = self.path(name);
        fs::create_dir_all(&dir).expect("made");
        spec_in(self.dir.path(), name, &dir)
    }

    /// A machine whose fake has these settings.
    pub(crate) fn spec_with_settings(&self, name: &str, settings: &Settings) -> LaunchSpec {
        let spec = self.spec(name);
        settings.write(spec.directory().expect("has one")).expect("written");
        spec
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) async fn launch(&self, spec: &LaunchSpec) -> Box<dyn Instance> {
        let launched = self.driver.launch(spec).await;
        self.track(launched.unwrap_or_else(|error| panic!("{}", chain(&error))))
    }

    pub(crate) async fn restore(&self, spec: &LaunchSpec, saved: &SavedMachine) -> Box<dyn Instance> {
        let restored = self.driver.restore(spec, saved).await;
        self.track(restored.unwrap_or_else(|error| panic!("{}", chain(&error))))
    }

    /// Launches a machine that must not start, and returns the error.
    pub(crate) async fn refused(&self, spec: &LaunchSpec) -> String {
        chain(&self.driver.launch(spec).await.expect_err("refused"))
    }

    /// Restores a machine that must not start, and returns the error.
    pub(crate) async fn not_restored(&self, spec: &LaunchSpec, saved: &SavedMachine) -> RestoreError {
        self.driver.restore(spec, saved).await.expect_err("refused")
    }

    /// A snapshot of a machine that has run, and its count.
    pub(crate) async fn saved(&self, name: &str) -> (SavedMachine, u64) {
        let spec = self.spec(name);
        let mut machine = self.launch(&spec).await;
        ticks(&spec, 1).await;
        let saved = self.save(machine.as_mut(), &format!("{name}-saved"), SaveKind::Full).await;
        machine.kill().await;
        let count = counted(&saved.memory);
        (saved, count)
    }

    /// Pauses and saves a machine.
    pub(crate) async fn save(&self, machine: &mut dyn Instance, name: &str, kind: SaveKind) -> SavedMachine {
        fs::create_dir_all(self.path(name)).expect("made");
        let (state, memory) = (self.path(name).join("state"), self.path(name).join("memory"));
        machine.pause().await.expect("pauses");
        machine.save(&state, &memory, kind).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        SavedMachine { state, memory, pager: None }
    }

    pub(crate) fn track(&self, instance: Box<dyn Instance>) -> Box<dyn Instance> {
        let pid = instance.process().pid;
        self.processes.borrow_mut().push((pid, start_time(pid).expect("it runs")));
        instance
    }

    fn check_nothing_is_left(&self) {
        for (pid, expected) in self.processes.borrow().iter() {
            assert_ne!(start_time(*pid).as_ref(), Some(expected), "process {pid} is left");
        }
        let mut directories = vec![self.dir.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).expect("read").flatten() {
                let name = entry.file_name().into_string().expect("text");
                let is_leftover = name == "jail" || name.ends_with(".sock") || name.ends_with(".partial");
                let is_leftover = is_leftover || (name.starts_with("vmm.") && !name.starts_with("vmm.log"));
                assert!(!is_leftover && name != "vmm.log.pipe", "{} is left", entry.path().display());
                if entry.file_type().expect("known").is_dir() {
                    directories.push(entry.path());
                }
            }
        }
    }
}

/// The driver, or none if this host cannot test it, which is reported.
pub(crate) fn driver(implementation: Implementation, jailed: Jailed, program: &Path) -> Option<Firecracker> {
    let driver = Firecracker::new(program);
    match (jailed, implementation) {
        (Jailed::No, _) => Some(driver.without_jailer()),
        (Jailed::Yes, _) if !driver.is_jailed() => {
            eprintln!("NOT RUN in a jail: this needs root");
            None
        }
        (Jailed::Yes, Implementation::Fake) => Some(driver.with_jailer(env!("CARGO_BIN_EXE_fake-jailer"))),
        (Jailed::Yes, Implementation::Real) => Some(driver),
    }
}

pub(crate) fn real_program() -> Option<PathBuf> {
    let program = std::env::var_os(REAL_FIRECRACKER).map(PathBuf::from);
    if program.is_none() {
        eprintln!("NOT RUN against a real Firecracker: {REAL_FIRECRACKER} is not set");
    }
    program
}

/// A machine in `dir` with a kernel and an image of `common`.
pub(crate) fn spec_in(common: &Path, name: &str, dir: &Path) -> LaunchSpec {
    let disk = |path: PathBuf, serial: &str, read_only| Disk {
        path,
        serial: serial.to_owned(),
        read_only,
        format: DiskFormat::Raw,
        durable: false,
    };
    if !dir.join("disk").exists() {
        fs::write(dir.join("disk"), vec![0; 1 << 20]).expect("written");
    }
    LaunchSpec {
        name: name.to_owned(),
        accelerator: Accelerator::Kvm,
        kernel: common.join("kernel"),
        initramfs: common.join("initramfs"),
        command_line: "reboot=k panic=1".to_owned(),
        cpus: 1,
        memory_mib: MEMORY_MIB,
        disks: vec![disk(common.join("image"), "image", true), disk(dir.join("disk"), "disk", false)],
        network: None,
        console: dir.join("console.log"),
    }
}

/// The start time of a process, which tells it apart from another with the same PID.
pub(crate) fn start_time(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // A zombie counts as gone.
    let mut words = text.rsplit_once(')')?.1.split_whitespace();
    if matches!(words.next(), Some("Z" | "X")) {
        return None;
    }
    words.nth(18).map(str::to_owned)
}

/// Waits until a condition holds.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Waits until the guest's console has this many ticks.
pub(crate) async fn ticks(spec: &LaunchSpec, count: usize) {
    let ticked = || {
        let console = fs::read(&spec.console).unwrap_or_default();
        console.iter().filter(|byte| **byte == guest::TICK).count() >= count
    };
    until(ticked).await;
}

/// The guest's count in a saved memory.
pub(crate) fn counted(memory: &Path) -> u64 {
    use std::os::unix::fs::FileExt;
    let mut word = [0; 8];
    fs::File::open(memory).expect("opened").read_exact_at(&mut word, guest::COUNTER).expect("read");
    u64::from_le_bytes(word)
}

/// An error and its sources.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Makes each body a test on the fake, without a jail and in one.
macro_rules! on_the_fake {
    ($($body:ident),* $(,)?) => { $(
        mod $body {
            use crate::harness::{Implementation, Jailed, run};
            #[test]
            fn fake() { run(Implementation::Fake, Jailed::No, |bench| Box::pin(super::$body(bench))); }
            #[test]
            fn fake_jailed() { run(Implementation::Fake, Jailed::Yes, |bench| Box::pin(super::$body(bench))); }
        }
    )* };
}

/// Makes each body a test on the fake and one on a real Firecracker, without a jail and in one.
macro_rules! on_each {
    ($($body:ident),* $(,)?) => { $(
        mod $body {
            use crate::harness::{Implementation, Jailed, run};
            #[test]
            fn fake() { run(Implementation::Fake, Jailed::No, |bench| Box::pin(super::$body(bench))); }
            #[test]
            fn fake_jailed() { run(Implementation::Fake, Jailed::Yes, |bench| Box::pin(super::$body(bench))); }
            #[test]
            fn real() { run(Implementation::Real, Jailed::No, |bench| Box::pin(super::$body(bench))); }
            #[test]
            fn real_jailed() { run(Implementation::Real, Jailed::Yes, |bench| Box::pin(super::$body(bench))); }
        }
    )* };
}
pub(crate) use {on_each, on_the_fake};
