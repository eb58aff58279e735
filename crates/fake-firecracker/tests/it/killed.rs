//! What happens to a machine whose supervisor is killed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use mimeo_vmm::Driver;
use mimeo_vmm::firecracker::sweep;

use crate::harness::{
    Bench, Implementation, Jailed, driver, on_each, real_program, spec_in, start_time, until,
};

on_each!(a_machine_ends_with_its_supervisor, a_machine_ends_with_its_warden);

/// Makes this program a supervisor, and names its machine.
const SUPERVISOR: &str = "MIMEO_TEST_MONITOR";

/// Not a test: the supervisor process of the tests below.
#[test]
fn supervisor() {
    let Some(arguments) = std::env::var_os(SUPERVISOR) else { return };
    let arguments = arguments.into_string().expect("text");
    let words: Vec<&str> = arguments.split(' ').collect();
    let implementation = if words[0] == "Real" { Implementation::Real } else { Implementation::Fake };
    let jailed = if words[1] == "Yes" { Jailed::Yes } else { Jailed::No };
    let common = Path::new(words[2]);
    let program = match implementation {
        Implementation::Real => real_program().expect("named"),
        Implementation::Fake => PathBuf::from(env!("CARGO_BIN_EXE_fake-firecracker")),
    };
    let driver = driver(implementation, jailed, &program).expect("usable");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let machine =
            driver.launch(&spec_in(common, "machine", &common.join("machine"))).await.expect("starts");
        println!("\nMACHINE {}", machine.process().pid);
        std::future::pending::<()>().await;
    });
}

fn start_supervisor(bench: &Bench) -> (Child, u32) {
    bench.spec("machine");
    let arguments = format!("{:?} {:?} {}", bench.implementation, bench.jailed, bench.dir.path().display());
    let mut supervisor = Command::new(std::env::current_exe().expect("known"))
        .args(["--exact", "killed::supervisor", "--nocapture"])
        .env(SUPERVISOR, arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let lines = BufReader::new(supervisor.stdout.take().expect("piped")).lines();
    let pid = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("MACHINE ")?.parse().ok());
    (supervisor, pid.expect("the supervisor prints the PID"))
}

async fn a_machine_ends_with_its_supervisor(bench: &Bench) {
    let (mut supervisor, pid) = start_supervisor(bench);
    let start = start_time(pid);
    assert!(start.is_some());
    // The supervisor's children: Firecracker itself, or its warden.
    let descendants = list_descendants(supervisor.id());
    supervisor.kill().expect("killed");
    supervisor.wait().expect("ended");
    until(|| start_time(pid) != start).await;
    for (child, start) in descendants {
        until(|| start_time(child).as_ref() != Some(&start)).await;
    }
    let swept = sweep(&bench.path("machine")).expect("swept");
    assert_eq!(swept, bench.jailed == Jailed::Yes);
    assert!(!bench.path("machine/jail").exists());
}

/// The descendants of a process, with their start times.
fn list_descendants(pid: u32) -> Vec<(u32, String)> {
    let mut all = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for task in std::fs::read_dir(format!("/proc/{parent}/task")).expect("read").flatten() {
            let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in text.split_whitespace().filter_map(|word| word.parse().ok()) {
                all.extend(start_time(child).map(|start| (child, start)));
                parents.push(child);
            }
        }
    }
    assert!(!all.is_empty());
    all
}

async fn a_machine_ends_with_its_warden(bench: &Bench) {
    if bench.jailed == Jailed::No {
        return;
    }
    let spec = bench.spec("machine");
    let mut machine = bench.launch(&spec).await;
    let pid = machine.process().pid;
    let warden: i32 = crate::fence::status(pid, "PPid").parse().expect("a number");
    assert_eq!(crate::fence::status(warden.cast_unsigned(), "Name"), "vm-warden");
    let warden = rustix::process::Pid::from_raw(warden).expect("a number");
    rustix::process::kill_process(warden, rustix::process::Signal::KILL).expect("killed");
    machine.wait().await;
    until(|| start_time(pid).is_none()).await;
}
