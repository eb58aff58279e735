use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use mimeo_fake_firecracker::guest;
use mimeo_vmm::{Instance, OperationError, RestoreError, SaveKind, SavedMachine};

use crate::harness::{Bench, Implementation, Jailed, MEMORY_MIB, counted, driver, on_each, ticks};
use crate::pager;

on_each!(
    a_machine_continues_after_a_save,
    two_clones_continue_from_the_same_count,
    two_clones_get_their_pages_from_a_server,
    a_diff_holds_the_written_pages,
    a_diff_needs_no_tracking_in_newer_versions,
    a_failed_save_leaves_no_files,
    a_damaged_state_is_refused,
    a_memory_of_another_size_is_refused,
    snapshots_load_inside_and_outside_a_jail,
    a_disk_may_have_another_size,
);

async fn a_machine_continues_after_a_save(bench: &Bench) {
    let spec = bench.spec("source");
    let mut machine = bench.launch(&spec).await;
    ticks(&spec, 2).await;
    assert!(fs::read(&spec.console).expect("a console").starts_with(guest::GREETING));
    let first = bench.save(machine.as_mut(), "first", SaveKind::Full).await;
    assert_eq!(fs::metadata(&first.memory).expect("saved").len(), u64::from(MEMORY_MIB) << 20);
    let before = counted(&first.memory);
    assert!(before >= 2 * guest::ROUND, "{before}");
    machine.resume().await.expect("resumes");
    ticks(&spec, (before / guest::ROUND) as usize + 2).await;
    let second = bench.save(machine.as_mut(), "second", SaveKind::Full).await;
    assert!(counted(&second.memory) > before);
    machine.kill().await;
}

/// Lets a clone run for some ticks, saves it, and returns its count.
async fn run_and_count(bench: &Bench, clone: &mut dyn Instance, name: &str, rounds: usize) -> u64 {
    clone.resume().await.expect("resumes");
    ticks(&bench.spec(name), rounds).await;
    counted(&bench.save(clone, &format!("{name}-saved"), SaveKind::Full).await.memory)
}

async fn assert_clones_diverge(bench: &Bench, saved: &SavedMachine, before: u64) {
    // Both run at the same time.
    let mut first = bench.restore(&bench.spec("first"), saved).await;
    let mut second = bench.restore(&bench.spec("second"), saved).await;
    assert_ne!(first.process(), second.process());
    let one = run_and_count(bench, first.as_mut(), "first", 1).await;
    let rounds = (one - before) / guest::ROUND + 2;
    let other = run_and_count(bench, second.as_mut(), "second", rounds as usize).await;
    assert!(before < one && one < other, "{before} {one} {other}");
    first.kill().await;
    second.kill().await;
    // The saved memory is unchanged.
    assert_eq!(counted(&saved.memory), before);
}

async fn two_clones_continue_from_the_same_count(bench: &Bench) {
    let (saved, before) = bench.saved("source").await;
    assert_clones_diverge(bench, &saved, before).await;
}

async fn two_clones_get_their_pages_from_a_server(bench: &Bench) {
    let (saved, before) = bench.saved("source").await;
    let pager = pager::serve(&saved.memory, bench.dir.path());
    assert_clones_diverge(bench, &SavedMachine { pager: Some(pager.socket.clone()), ..saved }, before).await;
    let counters = pager.counters();
    assert!(counters.faults > 0 && counters.refused == 0 && counters.failed == 0, "{counters:?}");
}

/// Allocated bytes of a file.
fn allocated(path: &Path) -> u64 {
    fs::metadata(path).expect("there").blocks() * 512
}

/// Writes the pages of `diff` that are not zero over another file.
fn overlay_pages(diff: &Path, over: &Path) {
    let bytes = fs::read(diff).expect("read");
    let below = fs::File::options().write(true).open(over).expect("opened");
    for (index, page) in bytes.chunks(4096).enumerate() {
        if page.iter().any(|byte| *byte != 0) {
            below.write_all_at(page, index as u64 * 4096).expect("written");
        }
    }
}

async fn a_diff_holds_the_written_pages(bench: &Bench) {
    let tracking = bench.driver.clone().tracking_writes();
    let spec = bench.spec("source");
    let launched = mimeo_vmm::Driver::launch(&tracking, &spec).await.expect("starts");
    let mut machine = bench.track(launched);
    ticks(&spec, 1).await;
    let full = bench.save(machine.as_mut(), "full", SaveKind::Full).await;
    machine.kill().await;
    let before = counted(&full.memory);
    let spec = bench.spec("first");
    let saved = SavedMachine { state: full.state.clone(), memory: full.memory.clone(), pager: None };
    let restored = mimeo_vmm::Driver::restore(&tracking, &spec, &saved).await.expect("starts");
    let mut machine = bench.track(restored);
    machine.resume().await.expect("resumes");
    ticks(&spec, 2).await;
    let diff = bench.save(machine.as_mut(), "diff", SaveKind::Diff).await;
    machine.kill().await;
    assert_eq!(fs::metadata(&diff.memory).expect("saved").len(), u64::from(MEMORY_MIB) << 20);
    assert!(allocated(&diff.memory) < 1 << 20, "{} bytes are filled", allocated(&diff.memory));
    let after = counted(&diff.memory);
    assert!(after > before, "{before} {after}");
    overlay_pages(&diff.memory, &full.memory);
    let saved = SavedMachine { state: diff.state, memory: full.memory, pager: None };
    let clone_spec = bench.spec("clone");
    let restored = mimeo_vmm::Driver::restore(&tracking, &clone_spec, &saved).await.expect("starts");
    let mut clone = bench.track(restored);
    clone.resume().await.expect("resumes");
    ticks(&clone_spec, 1).await;
    // Writes are also tracked after a load.
    let again = bench.save(clone.as_mut(), "again", SaveKind::Diff).await;
    assert!(counted(&again.memory) > after);
    assert!(allocated(&again.memory) < 1 << 20, "{} bytes are filled", allocated(&again.memory));
    clone.kill().await;
}

async fn a_diff_needs_no_tracking_in_newer_versions(bench: &Bench) {
    let spec = bench.spec("source");
    let mut machine = bench.launch(&spec).await;
    ticks(&spec, 1).await;
    let version = machine.version().await.expect("known");
    machine.pause().await.expect("pauses");
    let (state, memory) = (bench.path("state"), bench.path("memory"));
    let saved = machine.save(&state, &memory, SaveKind::Diff).await;
    let minor: u32 = version.split('.').nth(1).and_then(|word| word.parse().ok()).expect("a version");
    match saved {
        Ok(()) if minor >= 13 => assert!(counted(&memory) >= guest::ROUND),
        Err(OperationError::TooOld { found, needed, .. }) if minor < 13 => {
            assert_eq!((found, needed.as_str()), (version, "1.13.0"));
            assert!(!state.exists() && !memory.exists());
        }
        other => panic!("{version}: {other:?}"),
    }
    machine.kill().await;
}

async fn a_failed_save_leaves_no_files(bench: &Bench) {
    let spec = bench.spec("source");
    let mut machine = bench.launch(&spec).await;
    ticks(&spec, 1).await;
    let (state, memory) = (bench.path("state"), bench.path("memory"));
    let running = machine.save(&state, &memory, SaveKind::Full).await.expect_err("it runs");
    assert!(running.to_string().contains("to save the machine: "), "{running}");
    machine.pause().await.expect("pauses");
    let nowhere = bench.path("nowhere").join("state");
    machine.save(&nowhere, &memory, SaveKind::Full).await.expect_err("no such directory");
    machine.save(&state, &bench.path("nowhere").join("memory"), SaveKind::Full).await.expect_err("the same");
    assert!(!state.exists() && !memory.exists());
    // The machine is unharmed.
    machine.save(&state, &memory, SaveKind::Full).await.expect("saves");
    machine.resume().await.expect("resumes");
    ticks(&spec, 2).await;
    machine.kill().await;
}

async fn a_damaged_state_is_refused(bench: &Bench) {
    let (saved, _) = bench.saved("source").await;
    let original = fs::read(&saved.state).expect("read");
    let mut flipped = original.clone();
    flipped[original.len() / 2] ^= 1;
    let clone = bench.spec("clone");
    for damaged in [&flipped[..], &original[..original.len() / 2], b"junk", b""] {
        fs::write(&saved.state, damaged).expect("written");
        match bench.not_restored(&clone, &saved).await {
            RestoreError::Ended { how } => assert!(how.contains("snapshot state"), "{how}"),
            other => panic!("{other}"),
        }
    }
    fs::remove_file(&saved.state).expect("removed");
    match bench.not_restored(&clone, &saved).await {
        RestoreError::Open { path, .. } => assert_eq!(path, saved.state),
        other => panic!("{other}"),
    }
    fs::write(&saved.state, original).expect("written");
    bench.restore(&clone, &saved).await.kill().await;
}

async fn a_memory_of_another_size_is_refused(bench: &Bench) {
    let (saved, _) = bench.saved("source").await;
    let clone = bench.spec("clone");
    let expected = u64::from(MEMORY_MIB) << 20;
    for length in [expected - 4096, expected + 4096, 0] {
        fs::File::options()
            .write(true)
            .open(&saved.memory)
            .and_then(|file| file.set_len(length))
            .expect("set");
        match bench.not_restored(&clone, &saved).await {
            RestoreError::MemorySize { expected: reported, found, .. } => {
                assert_eq!((reported, found), (expected, length))
            }
            other => panic!("{other}"),
        }
    }
    fs::remove_file(&saved.memory).expect("removed");
    let missing = bench.not_restored(&clone, &saved).await.to_string();
    assert!(missing.contains("memory"), "{missing}");
}

async fn snapshots_load_inside_and_outside_a_jail(bench: &Bench) {
    let (saved, before) = bench.saved("source").await;
    let other = if bench.jailed == Jailed::Yes { Jailed::No } else { Jailed::Yes };
    let Some(elsewhere) = driver(bench.implementation, other, &bench.program) else { return };
    let spec = bench.spec("clone");
    let restored = mimeo_vmm::Driver::restore(&elsewhere, &spec, &saved).await.expect("starts");
    let mut clone = bench.track(restored);
    assert!(run_and_count(bench, clone.as_mut(), "clone", 1).await > before);
    clone.kill().await;
    if bench.jailed == Jailed::Yes && Path::new("/dev/shm").is_dir() {
        save_to_another_filesystem(bench, &saved).await;
    }
}

async fn save_to_another_filesystem(bench: &Bench, saved: &SavedMachine) {
    let other_filesystem = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let mut clone = bench.restore(&bench.spec("far"), saved).await;
    let (state, memory) = (other_filesystem.path().join("state"), other_filesystem.path().join("memory"));
    clone.save(&state, &memory, SaveKind::Full).await.expect("saves");
    assert_eq!(counted(&memory), counted(&saved.memory));
    assert_eq!(fs::read_dir(other_filesystem.path()).expect("read").count(), 2);
    clone.kill().await;
}

async fn a_disk_may_have_another_size(bench: &Bench) {
    let (saved, _) = bench.saved("source").await;
    let spec = bench.spec("clone");
    fs::write(bench.path("clone").join("disk"), vec![0; 4 << 20]).expect("written");
    let mut clone = bench.restore(&spec, &saved).await;
    if bench.implementation == Implementation::Real {
        clone.resume().await.expect("resumes");
        ticks(&spec, 1).await;
    }
    clone.kill().await;
}
