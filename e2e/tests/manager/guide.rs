//! Runs the commands of the guide, in one shell.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use e2e::{Image, User, World};

/// What separates the outputs of commands.
const MARK: &str = "--- next command ---";

/// The commands of the guide, each with its expected output.
fn steps() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guides/manager.md");
    let text = fs::read_to_string(path).expect("read");
    let blocks = text.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut steps: Vec<(String, String)> = Vec::new();
    for line in blocks.flat_map(str::lines) {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push((command.to_owned(), String::new())),
            (None, Some((_, expected))) => expected.push_str(&format!("{line}\n")),
            (None, None) => panic!("output before any command: {line}"),
        }
    }
    steps
}

#[test]
fn the_guide_is_true() {
    let world = World::new(User::Ordinary);
    drop(world.image(&Image::busybox("busybox")));
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let here = |text: &str| text.replace("18080", &port.to_string());
    let steps = steps();
    assert!(steps.len() > 30, "the commands were not found");
    let script: String =
        steps.iter().map(|(command, _)| format!("{}\necho '{MARK}'\n", here(command))).collect();
    let mimeo = world.command([""; 0]).get_program().to_owned();
    let bin = Path::new(&mimeo).parent().expect("a directory").to_owned();
    let mut shell = world.program("bash");
    // A manager that was not ended must not keep the test's pipe open.
    shell
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
        .args(["-c", &format!("trap 'kill $!' EXIT\n{script}")]);
    let outcome = world.finish(shell);
    let outputs: Vec<_> = outcome.stdout.split(&format!("{MARK}\n")).collect();
    for (number, (command, expected)) in steps.iter().enumerate() {
        let found = outputs.get(number).copied().unwrap_or_default();
        assert_eq!(found, here(expected), "{command}\n{}", outcome.stderr);
    }
    world.assert_empty();
}
