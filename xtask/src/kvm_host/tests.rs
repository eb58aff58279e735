//! Runs the end-to-end tests in the emulated host.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::command::shares;
use super::machine::{self, Plan, target};
use super::{image, shell};

/// One test for each feature that a host with KVM must support.
const DEFAULT_TESTS: [&str; 21] = [
    "bad_input::accel_kvm_never_falls_back_to_emulation::as_user",
    "boot_snapshots::the_first_run_makes_the_boot_snapshot::as_root",
    "bridged::published_ports_are_reachable_from_host_and_lan",
    "clones::clones_run_side_by_side::as_root",
    "forks::clones_have_the_memory_and_disk_of_their_source::as_user",
    "identity::a_clone_drops_connections_and_keeps_listeners",
    "manage::exec_applies_its_options::as_user",
    "manager::forks::a_machine_is_forked::as_user",
    "manager::machines::machines_outlive_the_manager::as_user",
    "manager::pools::clones_are_taken_from_a_pool_and_outlive_it::as_user",
    "network::a_published_port_is_reachable::as_user",
    "run::run_passes_output_and_exit_code_through::as_user",
    "run::signals_are_forwarded_and_ctrl_c_ends_the_run::as_user",
    "servers::a_pool_hands_out_clones_and_refills",
    "setup::preflight_reports_the_accelerator::as_user",
    "snapshots::a_snapshot_only_pauses_its_source",
    "start::snapshots_and_clones_of_machines_that_started_again_have_their_disks",
    "stopped_files::files_of_a_stopped_machine_are_copied::as_root",
    "supervisor::a_killed_supervisor_takes_only_its_machine_along::as_root",
    "supervisor::a_killed_vmm_is_reported_and_cleaned_up",
    "volume_clones::each_clone_has_its_own_copy_of_a_volume::as_user",
];
/// The same tests on Firecracker, as root because of its jailer, and Firecracker's own tests.
const FIRECRACKER_DEFAULT_TESTS: [&str; 20] = [
    "boot_snapshots::the_first_run_makes_the_boot_snapshot::as_root",
    "bridged::published_ports_are_reachable_from_host_and_lan",
    "clones::clones_run_side_by_side::as_root",
    FIRECRACKER_TESTS,
    "forks::clones_have_the_memory_and_disk_of_their_source::as_root",
    "identity::a_clone_drops_connections_and_keeps_listeners",
    "manage::exec_applies_its_options::as_root",
    "manager::forks::a_machine_is_forked::as_root",
    "manager::machines::machines_outlive_the_manager::as_root",
    "manager::pools::clones_are_taken_from_a_pool_and_outlive_it::as_root",
    "network::a_published_port_is_reachable::as_root",
    "run::run_passes_output_and_exit_code_through::as_root",
    "run::signals_are_forwarded_and_ctrl_c_ends_the_run::as_root",
    "servers::a_pool_hands_out_clones_and_refills",
    "snapshots::a_snapshot_only_pauses_its_source",
    "start::snapshots_and_clones_of_machines_that_started_again_have_their_disks",
    "stopped_files::files_of_a_stopped_machine_are_copied::as_root",
    "supervisor::a_killed_supervisor_takes_only_its_machine_along::as_root",
    "supervisor::a_killed_vmm_is_reported_and_cleaned_up",
    "volume_clones::each_clone_has_its_own_copy_of_a_volume::as_root",
];
/// Tests that `--all` skips: they need a registry, a compiler or packages, test emulation, or start more machines than
/// an emulated vCPU can run.
const SKIPPED_TESTS: [&str; 13] = [
    "images::",
    "stencils::",
    "hangs::guests_answer_on_a_busy_host",
    "network::udp_ports_are_published",
    "setup::setup_is_idempotent",
    "setup::concurrent_setups_make_one_kernel",
    "bad_input::a_missing_image_or_registry_is_refused",
    "bad_input::ctrl_c_ends_a_stalled_pull",
    "bad_input::a_layer_with_a_wrong_digest_is_refused",
    "supervisor::twenty_machines_start_at_once",
    "identity::fifty_clones",
    "boot_snapshots::another_qemu_gets_its_own_snapshot",
    "manage::exec_gives_a_terminal_and_runs_twenty_at_once",
];
/// Without a real Firecracker these tests run their guests under TCG, which is too slow inside an emulated host.
const FIRECRACKER_TESTS: &str = "firecracker::";
/// How the names of the manager's tests start, which are a program of their own.
const MANAGER_TESTS: &str = "manager::";
const MEMORY_MIB: u32 = 8192;

/// Options of `kvm-host test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Run all tests that work there, not only the default set
    #[arg(long)]
    all: bool,
    /// Seconds after which the emulated host is killed
    #[arg(long, default_value_t = 900)]
    timeout: u64,
    /// Run the tests whose names contain one of these words; the manager's as `manager::WORD`
    filters: Vec<String>,
}

pub(super) fn run(options: &Options) -> Result<ExitCode> {
    let image = image::ensure()?;
    let tests = build_tests()?;
    let kernels = set_up_kernels()?;
    let firecracker = std::env::var_os("MIMEO_FIRECRACKER").map(PathBuf::from);
    eprintln!("kvm-host: QEMU with KVM");
    let mut code = run_set(&image, options, &tests, &kernels, &DEFAULT_TESTS, None)?;
    match firecracker {
        Some(program) => {
            eprintln!("kvm-host: Firecracker, {}", program.display());
            let firecracker_code =
                run_set(&image, options, &tests, &kernels, &FIRECRACKER_DEFAULT_TESTS, Some(&program))?;
            code = code.max(firecracker_code);
        }
        None => eprintln!(
            "kvm-host: NOT RUN ON FIRECRACKER: MIMEO_FIRECRACKER names no program, so these tests do not show whether mimeo \
             works on a real Firecracker."
        ),
    }
    Ok(ExitCode::from(code))
}

fn run_set(
    image: &image::Image,
    options: &Options,
    tests: &Tests,
    kernels: &Path,
    chosen: &[&str],
    firecracker: Option<&Path>,
) -> Result<u8> {
    let commands = match (options.all, options.filters.is_empty()) {
        (_, false) => tests.commands(options.filters.iter().map(String::as_str)),
        (true, true) => {
            let without_firecracker = firecracker.is_none().then_some(FIRECRACKER_TESTS);
            vec![tests.command_without(SKIPPED_TESTS.into_iter().chain(without_firecracker))]
        }
        (false, true) => tests.commands(chosen.iter().copied()),
    };
    let mut variables = vec![
        ("MIMEO_E2E_SHARED".to_owned(), "/tmp/e2e-shared".to_owned()),
        ("MIMEO_E2E_KERNELS".to_owned(), kernels.display().to_string()),
        ("RUST_BACKTRACE".to_owned(), "0".to_owned()),
    ];
    variables.extend(std::env::var("MIMEO_BIN").ok().map(|path| ("MIMEO_BIN".to_owned(), path)));
    let mut more = vec![];
    if let Some(program) = firecracker {
        let program = program.canonicalize().context("MIMEO_FIRECRACKER names no file")?;
        variables.push(("MIMEO_E2E_FIRECRACKER".to_owned(), program.display().to_string()));
        more.extend(program.parent().map(PathBuf::from));
    }
    let plan = Plan {
        script: shell::script_of_all(&variables, "/tmp", &commands),
        shares: shares(&more)?,
        files: None,
        memory_mib: MEMORY_MIB,
        processors: 1,
        timeout: Duration::from_secs(options.timeout),
        tty: false,
    };
    let exit = machine::run(image, &plan)?;
    eprintln!(
        "kvm-host: /dev/kvm after {} s; ended after {:.0} s",
        exit.until_ready,
        exit.took.as_secs_f64()
    );
    Ok(exit.exit_code)
}

/// The test programs.
struct Tests {
    e2e: PathBuf,
    manager: PathBuf,
}

impl Tests {
    /// The commands that run the tests whose names contain one of these words.
    fn commands<'a>(&self, words: impl Iterator<Item = &'a str>) -> Vec<Vec<String>> {
        let (manager, e2e): (Vec<_>, Vec<_>) = words.partition(|word| word.starts_with(MANAGER_TESTS));
        let programs = [(&self.e2e, e2e), (&self.manager, manager)].into_iter();
        let programs = programs.filter(|(_, words)| !words.is_empty());
        programs
            .map(|(program, words)| {
                let words = words.into_iter().map(|word| word.strip_prefix(MANAGER_TESTS).unwrap_or(word));
                one_by_one(program).into_iter().chain(words.map(str::to_owned)).collect()
            })
            .collect()
    }

    /// The command that runs all tests of machines but those whose names contain one of these words.
    fn command_without<'a>(&self, words: impl Iterator<Item = &'a str>) -> Vec<String> {
        let skipped = words.flat_map(|word| ["--skip".to_owned(), word.to_owned()]);
        one_by_one(&self.e2e).into_iter().chain(skipped).collect()
    }
}

fn one_by_one(program: &Path) -> Vec<String> {
    vec![program.display().to_string(), "--test-threads=1".to_owned()]
}

#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// Builds the tests and the programs that they start.
fn build_tests() -> Result<Tests> {
    let cargo = || Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let built =
        cargo().args(["build", "--package", "mimeo", "--package", "mimeo-fake-firecracker"]).status()?;
    ensure!(built.success(), "cannot build mimeo");
    let mut command = cargo();
    command.args(["test", "--package", "e2e", "--test", "e2e", "--test", "manager"]);
    command.args(["--no-run", "--message-format", "json"]);
    let output = command.stderr(std::process::Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "cannot build the tests");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(Tests { e2e: find_test(&lines, "e2e")?, manager: find_test(&lines, "manager")? })
}

/// Finds a test program in the messages of cargo.
fn find_test(messages: &str, name: &str) -> Result<PathBuf> {
    let mut messages = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    messages
        .find(|message| {
            message.target.as_ref().is_some_and(|target| target.kind == ["test"] && target.name == name)
        })
        .and_then(|message| message.executable)
        .with_context(|| format!("cargo reported no test program {name}"))
}

/// Sets up a kernel for guests on this host, because the emulated host has no network to fetch one.
fn set_up_kernels() -> Result<PathBuf> {
    let home = target().join("kvm-host/home");
    let mimeo = std::env::var_os("MIMEO_BIN").map_or_else(|| target().join("debug/mimeo"), PathBuf::from);
    let mut command = Command::new(&mimeo);
    command
        .args(["setup", "kernel"])
        .env("MIMEO_HOME", &home)
        .env("MIMEO_RUN", target().join("kvm-host/run"));
    let output = command.output().with_context(|| format!("cannot start {}", mimeo.display()))?;
    ensure!(
        output.status.success(),
        "mimeo setup kernel: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(home.join("kernels"))
}
