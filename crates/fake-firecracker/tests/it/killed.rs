//! What happens to a machine whose supervisor is killed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use mimeo_vmm::Driver;
use mimeo_vmm::firecracker::sweep;

use crate::harness::{Bench, Jailed, Which, driver, on_each, real, spec_in, started, until};

on_each!(a_machine_ends_with_its_monitor, a_machine_ends_with_its_warden);

/// Makes this program a supervisor, and names its machine.
const MONITOR: &str = "MIMEO_TEST_MONITOR";

/// Not a test: the supervisor process of the tests below.
#[test]
fn monitor() {
    let Some(told) = std::env::var_os(MONITOR) else { return };
    let told = told.into_string().expect("text");
    let words: Vec<&str> = told.split(' ').collect();
    let which = if words[0] == "Real" { Which::Real } else { Which::Fake };
    let jailed = if words[1] == "Yes" { Jailed::Yes } else { Jailed::No };
    let common = Path::new(words[2]);
    let program = match which {
        Which::Real => real().expect("named"),
        Which::Fake => PathBuf::from(env!("CARGO_BIN_EXE_fake-firecracker")),
    };
    let driver = driver(which, jailed, &program).expect("usable");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let machine =
            driver.launch(&spec_in(common, "machine", &common.join("machine"))).await.expect("starts");
        println!("\nMACHINE {}", machine.process().pid);
        std::future::pending::<()>().await;
    });
}

fn start_monitor(bench: &Bench) -> (Child, u32) {
    bench.spec("machine");
    let told = format!("{:?} {:?} {}", bench.which, bench.jailed, bench.dir.path().display());
    let mut monitor = Command::new(std::env::current_exe().expect("known"))
        .args(["--exact", "killed::monitor", "--nocapture"])
        .env(MONITOR, told)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let lines = BufReader::new(monitor.stdout.take().expect("piped")).lines();
    let pid = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("MACHINE ")?.parse().ok());
    (monitor, pid.expect("the supervisor prints the PID"))
}

async fn a_machine_ends_with_its_monitor(bench: &Bench) {
    let (mut monitor, pid) = start_monitor(bench);
    let then = started(pid);
    assert!(then.is_some());
    // The supervisor's children: Firecracker itself, or its warden.
    let between = children(monitor.id());
    monitor.kill().expect("killed");
    monitor.wait().expect("ended");
    until(|| started(pid) != then).await;
    for (child, then) in between {
        until(|| started(child).as_ref() != Some(&then)).await;
    }
    let swept = sweep(&bench.path("machine")).expect("swept");
    assert_eq!(swept, bench.jailed == Jailed::Yes);
    assert!(!bench.path("machine/jail").exists());
}

/// The descendants of a process, with their start times.
fn children(of: u32) -> Vec<(u32, String)> {
    let mut all = Vec::new();
    let mut parents = vec![of];
    while let Some(parent) = parents.pop() {
        for task in std::fs::read_dir(format!("/proc/{parent}/task")).expect("read").flatten() {
            let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in text.split_whitespace().filter_map(|word| word.parse().ok()) {
                all.extend(started(child).map(|then| (child, then)));
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
    until(|| started(pid).is_none()).await;
}
