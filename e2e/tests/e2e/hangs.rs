//! A guest that does not answer leaves a hang dump and nothing else.

use std::fs;

use e2e::{User, World, as_root_and_user};

/// Starts in this short soak test. Each makes a stencil, for which the agent is connected in two sessions.
const STARTS: u32 = 8;

as_root_and_user!(a_silent_guest_leaves_a_hang_dump, |world| {
    let image = world.busybox();
    let mut command =
        world.command(["run", "--name", "job", "--cold", "--start-timeout", "2", &image, "true"]);
    // `-S` keeps the vCPUs stopped.
    command.env("PATH", world.path_with_qemu(r#"exec "$QEMU" -S "$@""#));
    let outcome = world.finish(command).code(125);
    let hangs = world.home().join("hangs");
    let dumps: Vec<_> = fs::read_dir(&hangs).expect("a dump").flatten().map(|entry| entry.path()).collect();
    let [dump] = &dumps[..] else { panic!("one dump, not {dumps:?}") };
    outcome.stderr_contains(&format!(
        "no answer from the guest within 2 s (--start-timeout); evidence in {}",
        dump.display()
    ));
    let read = |name: &str| fs::read_to_string(dump.join(format!("{name}.txt"))).expect(name);
    assert!(read("query-status").contains("prelaunch"));
    assert!(read("registers-3").contains("CR3="));
    assert!(read("threads-1").contains("qemu-system"));
    assert!(read("process").contains("ram"));
    assert!(read("summary").contains("waited: no answer"));
    world.assert_empty();
});

/// A busy loop that is killed when this is dropped.
struct BusyLoop(std::process::Child);

impl Drop for BusyLoop {
    fn drop(&mut self) {
        // Fails only if the shell has ended already.
        self.0.kill().and_then(|()| self.0.wait()).ok();
    }
}

/// `cargo xtask soak` runs this for any length of time.
#[test]
fn guests_answer_on_a_busy_host() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let spin = || std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn();
    let _loops = [(); 2].map(|()| BusyLoop(spin().expect("a shell")));
    for start in 0..STARTS {
        fs::remove_dir_all(world.home().join("stencils")).ok();
        let outcome = world.mimeo(["run", "--rm", &image, "echo", "fine"]).ok().printed("fine\n");
        assert!(!outcome.stderr.contains("evidence in"), "start {start}: {}", outcome.stderr);
        assert!(!world.stencils().is_empty(), "start {start} made no stencil: {}", outcome.stderr);
    }
    assert!(!world.home().join("hangs").exists());
    world.assert_empty();
}
