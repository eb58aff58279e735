//! Runs the console transcript of the README.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use e2e::{Image, Outcome, User, World, until};

/// A command of the transcript and its expected output.
struct Step {
    command: String,
    expected: Vec<String>,
}

/// The commands of the README's longest console block.
fn transcript() -> Vec<Step> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).expect("read");
    let blocks = text.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let block = blocks.max_by_key(|block| block.len()).expect("a block");
    let mut steps: Vec<Step> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step { command: command.to_owned(), expected: Vec::new() }),
            (None, Some(step)) => step.expected.push(line.to_owned()),
            (None, None) => panic!("output before any command: {line}"),
        }
    }
    steps
}

/// Ids, ages and figures vary: a word with a digit matches any word with a digit, and
/// whitespace matches any amount of whitespace.
fn agrees(expected: &str, found: &str) -> bool {
    let varies = |word: &str| word.chars().any(|c| c.is_ascii_digit());
    let words = |line: &str| -> Vec<String> {
        line.split_whitespace()
            .map(|word| if varies(word) { "#".to_owned() } else { word.to_owned() })
            .collect()
    };
    // Ages below a minute use different words: "Less than a second", "seconds".
    let plain = |line: &str| {
        words(line)
            .into_iter()
            .filter(|word| !word.starts_with("second") && !word.starts_with("Less"))
            .collect::<Vec<_>>()
    };
    plain(expected) == plain(found)
}

fn run(world: &World, command: &str) -> Outcome {
    let mut shell = world.program("sh");
    let mimeo = world.command([""; 0]).get_program().to_owned();
    let bin = Path::new(&mimeo).parent().expect("a directory").to_owned();
    shell.env("PATH", format!("{}:/usr/bin:/bin", bin.display())).args(["-c", command]);
    world.finish(shell)
}

#[test]
fn the_transcript_is_true() {
    let world = World::new(User::Ordinary);
    drop(world.image(&Image::busybox("busybox")));
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let here = |text: &str| text.replace("8080", &port.to_string());
    let steps = transcript();
    assert!(steps.len() > 5, "the transcript was not found");
    for Step { command, expected } in steps {
        let mut last = None;
        let matched = || {
            let outcome = run(&world, &here(&command));
            let lines: Vec<_> = outcome.stdout.lines().map(str::to_owned).collect();
            let same = lines.len() == expected.len()
                && lines.iter().zip(&expected).all(|(found, line)| agrees(&here(line), found));
            let changes_things = ["run", "stop", "rm", "pause"]
                .iter()
                .any(|verb| command.starts_with(&format!("mimeo {verb}")));
            assert!(same || !changes_things, "{outcome:#?}\nexpected: {expected:#?}");
            last = Some(outcome);
            same.then_some(())
        };
        // A server takes a moment to start, and so does a health check.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| until(&command, matched)));
        assert!(outcome.is_ok(), "{last:#?}\nexpected: {expected:#?}");
    }
}

#[test]
fn both_commands_of_the_readme_are_in_the_makefile_and_in_ci() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |file: &str| fs::read_to_string(top.join(file)).expect("read");
    for target in ["demo", "test"] {
        assert!(read("README.md").contains(&format!("$ make {target}\n")), "{target}");
        assert!(read("Makefile").contains(&format!("\n{target}:")), "{target}");
        assert!(read(".ci/run").contains(&format!("make {target}\n")), "{target}");
    }
}
