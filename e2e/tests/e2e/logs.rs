//! `logs`, and how output is logged.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;

use e2e::{User, World, until};
use serde_json::json;

fn log_files(world: &World, name: &str) -> Vec<PathBuf> {
    let log = PathBuf::from(world.inspect(name)["LogPath"].as_str().expect("a path"));
    let entries = fs::read_dir(log.parent().expect("a directory")).expect("readable").flatten();
    let is_log = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("container.log"))
    };
    entries.map(|entry| entry.path()).filter(is_log).collect()
}

#[test]
fn logs_are_rotated_and_the_latest_output_is_kept() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let shell = "for i in $(seq 3000); do echo line $i; done; echo end >&2";
    let options = ["--log-opt", "max-size=32k", "--log-opt", "max-file=3", "--log-driver", "k8s-file"];
    let run = [&["run", "--name", "job"][..], &options, &[&image, "sh", "-c", shell]].concat();
    world.mimeo(run).code(0);
    let files = log_files(&world, "job");
    assert_eq!(files.len(), 3, "{files:?}");
    let sizes = files.iter().map(|file| fs::metadata(file).expect("a file").len());
    assert!(sizes.clone().all(|size| size <= 32 * 1024), "{:?}", sizes.collect::<Vec<_>>());
    let logs = world.mimeo(["logs", "job"]).code(0);
    let kept = logs.stdout.lines().count();
    let latest: String = (3001 - kept..=3000).map(|number| format!("line {number}\n")).collect();
    assert!(kept > 500 && kept < 3000 && logs.stdout == latest && logs.stderr == "end\n", "{kept}");
    world.mimeo(["logs", "--tail", "-1", "job"]).code(0).printed(&latest);
    let config = &world.inspect("job")["HostConfig"]["LogConfig"];
    assert_eq!(config["Config"], json!({ "max-size": "32768", "max-file": "3" }));
    assert_eq!((&config["Type"], &config["LostBytes"]), (&json!("k8s-file"), &json!(0)));
}

#[test]
fn a_followed_log_survives_rotations() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let shell = "until [ -e /go ]; do sleep 0.1; done; for i in $(seq 5000); do echo line $i; done";
    let options = ["--name", "job", "--log-opt", "max-size=16k", "--log-opt", "max-file=100"];
    world.start([&options[..], &[&image, "sh", "-c", shell]].concat());
    let mut follower = world.spawn(["logs", "-f", "job"]);
    world.mimeo(["exec", "job", "touch", "/go"]).ok();
    let mut followed = String::new();
    follower.stdout.take().expect("piped").read_to_string(&mut followed).expect("text");
    assert_eq!(follower.wait().expect("it ends").code(), Some(0));
    let expected: String = (1..=5000).map(|number| format!("line {number}\n")).collect();
    assert!(followed == expected, "{} bytes", followed.len());
    assert!(log_files(&world, "job").len() > 2);
    world.mimeo(["logs", "job"]).ok().printed(&expected);
}

#[test]
fn logs_of_several_machines_have_prefixes() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let ids = ["one", "two"].map(|name| {
        let shell = format!("echo {name}; printf {name}-; echo last");
        let id = world.start(["--name", name, &image, "sh", "-c", &shell]);
        until("it exits", || (world.inspect(name)["State"]["Status"] == "exited").then_some(()));
        id[..12].to_owned()
    });
    let [one, two] = &ids;
    let expected = format!("{one} one\n{one} one-last\n{two} two\n{two} two-last\n");
    world.mimeo(["logs", "one", "two"]).ok().printed(&expected);
    world.mimeo(["logs", "-f", "one", "two"]).ok().printed(&expected);
    world.mimeo(["logs", "--names", "--tail", "1", "one", two]).ok().printed("one one-last\ntwo two-last\n");
    world.mimeo(["logs", "-n", "one"]).ok().printed("one one\none one-last\n");
    let timed = world.mimeo(["logs", "-nt", "--tail=1", "one"]).ok().stdout;
    assert!(timed.starts_with("one 20") && timed.ends_with("Z one-last\n"), "{timed}");
    world.mimeo(["logs", "one", "none"]).code(125).printed("").stderr_contains("no such container");
}

#[test]
fn output_need_not_be_logged() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world
        .mimeo(["run", "--name", "job", "--log-driver", "none", &image, "echo", "out"])
        .ok()
        .printed("out\n");
    world.mimeo(["logs", "job"]).code(125).stderr_contains("using the 'none' log driver");
    assert_eq!(world.inspect("job")["HostConfig"]["LogConfig"]["Type"], "none");
    assert!(log_files(&world, "job").is_empty());
    for (options, message) in [
        (&["--log-driver", "journald"][..], "give k8s-file or none"),
        (&["--log-driver", "passthrough"], "give k8s-file or none"),
        (&["--log-opt", "max-size=1"], "too small"),
        (&["--log-opt", "max-size=big"], "is not a size"),
        (&["--log-opt", "max-file=0"], "not a number between 1 and"),
        (&["--log-opt", "path=/tmp/log"], "not supported"),
        (&["--log-driver", "none", "--log-opt", "max-size=1m"], "no effect"),
    ] {
        let run = [&["run", "--rm"][..], options, &[&image, "true"]].concat();
        world.mimeo(run).code(125).printed("").stderr_contains(message);
    }
}
