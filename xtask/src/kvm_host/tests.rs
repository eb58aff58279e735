//! Runs end-to-end tests in the emulated host: the same bodies that run outside.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::command::shares;
use super::machine::{self, Plan, target};
use super::{image, shell};

/// One body for each thing that a host with KVM must do.
const CHOSEN: [&str; 15] = [
    "bad_input::kvm_that_is_ordered_is_never_replaced_by_emulation::as_user",
    "bridged::published_ports_lead_into_the_machine_from_everywhere_they_should",
    "clones::copies_run_side_by_side::as_root",
    "forks::children_have_all_that_their_source_had::as_user",
    "identity::connections_of_the_original_are_gone_and_listening_sockets_stay",
    "manage::exec_runs_what_is_asked_for_as_asked_for::as_user",
    "monitor::a_killed_monitor_takes_its_machine_along_and_no_other::as_root",
    "monitor::a_killed_vmm_is_told_and_cleared_away",
    "network::a_published_port_leads_into_the_machine::as_user",
    "run::signals_go_through_and_ctrl_c_ends_it::as_user",
    "run::the_output_and_the_exit_code_are_the_containers::as_user",
    "runtime::the_first_run_makes_what_the_second_copies::as_root",
    "serves::a_pool_has_copies_ready_and_makes_more",
    "setup::preflight_is_honest::as_user",
    "snapshots::a_source_loses_nothing_but_a_pause",
];
/// The same bodies on Firecracker, where its jailer needs root, and those that are about it.
const CHOSEN_FOR_FIRECRACKER: [&str; 14] = [
    "bridged::published_ports_lead_into_the_machine_from_everywhere_they_should",
    "clones::copies_run_side_by_side::as_root",
    "firecracker::",
    "forks::children_have_all_that_their_source_had::as_root",
    "identity::connections_of_the_original_are_gone_and_listening_sockets_stay",
    "manage::exec_runs_what_is_asked_for_as_asked_for::as_root",
    "monitor::a_killed_monitor_takes_its_machine_along_and_no_other::as_root",
    "monitor::a_killed_vmm_is_told_and_cleared_away",
    "network::a_published_port_leads_into_the_machine::as_root",
    "run::signals_go_through_and_ctrl_c_ends_it::as_root",
    "run::the_output_and_the_exit_code_are_the_containers::as_root",
    "runtime::the_first_run_makes_what_the_second_copies::as_root",
    "serves::a_pool_has_copies_ready_and_makes_more",
    "snapshots::a_source_loses_nothing_but_a_pause",
];
/// Of all tests, those that make no sense in there: they need a registry, a compiler or packages, try emulation, or start
/// more machines than an emulated processor can serve.
const LEFT_OUT: [&str; 14] = [
    "images::",
    "stencils::",
    "hangs::no_guest_is_silent",
    "network::udp_is_published_too",
    "setup::setting_up_again",
    "setup::two_at_once",
    "bad_input::a_registry_without",
    "bad_input::ctrl_c_ends_a_pull",
    "bad_input::a_layer_of_other_bytes",
    "monitor::twenty_at_once",
    "identity::fifty_copies",
    "identity::clocks_of_fifty",
    "runtime::another_monitor",
    "manage::exec_gives_a_terminal_and_serves_twenty",
];
/// Without a real Firecracker these run guests in emulation, which inside an emulated host is too slow.
const ON_FIRECRACKER: &str = "firecracker::";
const MEMORY_MIB: u32 = 8192;

/// What `kvm-host test` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Run all tests that make sense there, not a chosen set
    #[arg(long)]
    all: bool,
    /// Seconds after which the host is ended
    #[arg(long, default_value_t = 900)]
    timeout: u64,
    /// Run the tests whose names hold one of these words
    filters: Vec<String>,
}

pub(super) fn run(options: &Options) -> Result<ExitCode> {
    let image = image::ensure()?;
    let tests = test_program()?;
    let kernels = kernels()?;
    let firecracker = std::env::var_os("MIMEO_FIRECRACKER").map(PathBuf::from);
    eprintln!("kvm-host: QEMU with KVM");
    let mut code = run_set(&image, options, &tests, &kernels, &CHOSEN, None)?;
    match firecracker {
        Some(program) => {
            eprintln!("kvm-host: Firecracker, {}", program.display());
            let on_it = run_set(&image, options, &tests, &kernels, &CHOSEN_FOR_FIRECRACKER, Some(&program))?;
            code = code.max(on_it);
        }
        None => eprintln!(
            "kvm-host: NOT RUN ON FIRECRACKER: MIMEO_FIRECRACKER names no program. Nothing here says whether mimeo works \
             on a real one."
        ),
    }
    Ok(ExitCode::from(code))
}

fn run_set(
    image: &image::Image,
    options: &Options,
    tests: &Path,
    kernels: &Path,
    chosen: &[&str],
    firecracker: Option<&Path>,
) -> Result<u8> {
    let mut command = vec![tests.display().to_string(), "--test-threads=1".to_owned()];
    match (options.all, options.filters.is_empty()) {
        (_, false) => command.extend(options.filters.clone()),
        (true, true) => {
            let without_firecracker = firecracker.is_none().then_some(ON_FIRECRACKER);
            let skipped = LEFT_OUT.into_iter().chain(without_firecracker);
            command.extend(skipped.flat_map(|name| ["--skip".to_owned(), name.to_owned()]))
        }
        (false, true) => command.extend(chosen.iter().map(|name| (*name).to_owned())),
    }
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
        script: shell::script(&variables, "/tmp", false, &command),
        shares: shares(&more)?,
        files: None,
        memory_mib: MEMORY_MIB,
        processors: 1,
        timeout: Duration::from_secs(options.timeout),
        tty: false,
    };
    let ended = machine::run(image, &plan)?;
    eprintln!(
        "kvm-host: /dev/kvm after {} s; ended after {:.0} s",
        ended.until_ready,
        ended.took.as_secs_f64()
    );
    Ok(ended.exit_code)
}

#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

/// Builds the tests and the programs that they start; where the tests are.
fn test_program() -> Result<PathBuf> {
    let cargo = || Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let built =
        cargo().args(["build", "--package", "mimeo", "--package", "mimeo-fake-firecracker"]).status()?;
    ensure!(built.success(), "mimeo is not built");
    let mut command = cargo();
    command.args(["test", "--package", "e2e", "--test", "e2e", "--no-run", "--message-format", "json"]);
    let output = command.stderr(std::process::Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "the tests are not built");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let messages = lines.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let mut tests = messages.filter(|message| message.target.as_ref().is_some_and(|it| it.kind == ["test"]));
    tests.find_map(|message| message.executable).context("cargo names no test program")
}

/// A kernel for guests, set up by mimeo outside: there is no network in there to fetch one.
fn kernels() -> Result<PathBuf> {
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
