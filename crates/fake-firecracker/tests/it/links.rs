use mimeo_fake_firecracker::settings::{Guest, Settings};
use mimeo_vmm::{OperationError, SaveKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::harness::{Bench, on_each, on_the_fake, ticks};

on_the_fake!(
    bytes_reach_the_guest,
    a_guest_that_listens_late_is_reached,
    a_link_ends_with_its_machine,
    a_link_continues_after_a_save,
    a_link_ends_with_a_process_that_is_killed_after_a_save,
    a_restored_guest_is_reached,
);
on_each!(there_is_one_link_at_a_time);

fn settings(guest: Guest) -> Settings {
    Settings { guest, ..Settings::default() }
}

async fn echo(link: &mut UnixStream, word: &str) {
    link.write_all(word.as_bytes()).await.expect("written");
    let mut received = vec![0; word.len()];
    link.read_exact(&mut received).await.expect("received");
    assert_eq!(received, word.as_bytes());
}

/// Reads to the end of a link.
async fn read_to_end(mut link: UnixStream) {
    let mut rest = Vec::new();
    // End of file and an error are both an end.
    link.read_to_end(&mut rest).await.unwrap_or_default();
}

async fn bytes_reach_the_guest(bench: &Bench) {
    let mut machine = bench.launch(&bench.spec("machine")).await;
    let mut link = machine.take_link().expect("a link");
    echo(&mut link, "hello").await;
    echo(&mut link, &"a lot ".repeat(20_000)).await;
    machine.kill().await;
    read_to_end(link).await;
}

async fn a_guest_that_listens_late_is_reached(bench: &Bench) {
    let mut machine = bench.launch(&bench.spec_with_settings("machine", &settings(Guest::Late(5)))).await;
    let mut link = machine.take_link().expect("a link");
    echo(&mut link, "sent before it listened").await;
    machine.kill().await;
}

async fn a_link_ends_with_its_machine(bench: &Bench) {
    for kind in [Guest::Refuse, Guest::Silent] {
        let mut machine = bench.launch(&bench.spec_with_settings("machine", &settings(kind))).await;
        let mut link = machine.take_link().expect("a link");
        link.write_all(b"unanswered").await.expect("written");
        machine.kill().await;
        read_to_end(link).await;
    }
}

async fn a_link_continues_after_a_save(bench: &Bench) {
    let spec = bench.spec("machine");
    let mut machine = bench.launch(&spec).await;
    let mut link = machine.take_link().expect("a link");
    echo(&mut link, "before").await;
    bench.save(machine.as_mut(), "saved", SaveKind::Full).await;
    machine.resume().await.expect("resumes");
    echo(&mut link, "after").await;
    machine.kill().await;
    read_to_end(link).await;
}

async fn a_link_ends_with_a_process_that_is_killed_after_a_save(bench: &Bench) {
    let mut machine = bench.launch(&bench.spec("machine")).await;
    let mut link = machine.take_link().expect("a link");
    echo(&mut link, "before").await;
    bench.save(machine.as_mut(), "saved", SaveKind::Full).await;
    let pid = rustix::process::Pid::from_raw(machine.process().pid.cast_signed()).expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it lives");
    // The link is being re-established, and no process is left to answer.
    tokio::time::timeout(std::time::Duration::from_secs(60), read_to_end(link)).await.expect("it ends");
    machine.kill().await;
}

async fn a_restored_guest_is_reached(bench: &Bench) {
    let (saved, _) = bench.saved("source").await;
    let mut clone = bench.restore(&bench.spec("clone"), &saved).await;
    // The guest is paused, and receives it later.
    let mut link = clone.take_link().expect("a link");
    link.write_all(b"early").await.expect("written");
    clone.resume().await.expect("resumes");
    let mut received = [0; 5];
    link.read_exact(&mut received).await.expect("received");
    assert_eq!(&received, b"early");
    clone.kill().await;
}

async fn there_is_one_link_at_a_time(bench: &Bench) {
    let spec = bench.spec("machine");
    let mut machine = bench.launch(&spec).await;
    let link = machine.take_link().expect("a link");
    assert!(matches!(machine.take_link(), Err(OperationError::LinkTaken)));
    // The real guest here has no vsock driver: nothing arrives, and the guest does not wait for it.
    ticks(&spec, 1).await;
    machine.kill().await;
    read_to_end(link).await;
}
