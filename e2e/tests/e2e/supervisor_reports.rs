//! What a supervisor reads on its standard input and reports on its standard output, for a process that starts machines
//! and observes them.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

use e2e::{LOGIN, Registry, User, World, as_root_and_user, until};
use serde_json::{Value, json};

/// The spec of a machine that `mimeo create` makes with these arguments.
fn spec(world: &World, args: &[&str]) -> Value {
    let id = world.mimeo(["create"].iter().chain(args)).ok().text().to_owned();
    let record = fs::read(world.home().join("machines").join(&id[..12]).join("machine.json")).expect("read");
    world.mimeo(["rm", &id]).ok();
    let record: Value = serde_json::from_slice(&record).expect("a record");
    record["spec"].clone()
}

/// Starts a supervisor with this request.
fn supervisor(world: &World, request: &Value) -> Child {
    let mut command = world.command(["supervisor"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("started");
    writeln!(child.stdin.as_mut().expect("piped"), "{request}").expect("written");
    child
}

/// Reads the reports up to the end of standard output, and asserts that standard error stayed empty until then.
fn reports(child: &mut Child) -> Vec<Value> {
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let reports = lines.map(|line| serde_json::from_str(&line.expect("read")).expect("JSON")).collect();
    let stderr = std::io::read_to_string(child.stderr.take().expect("piped")).expect("read");
    assert_eq!(stderr, "", "{reports:?}");
    reports
}

fn stages(reports: &[Value]) -> Vec<&str> {
    reports
        .iter()
        .filter_map(|report| report["stage"].as_str().filter(|_| report["report"] == "stage"))
        .collect()
}

fn id(digit: &str) -> String {
    digit.repeat(64)
}

as_root_and_user!(a_supervisor_reports_the_stages_of_a_start, |world| {
    let image = world.busybox();
    let spec = spec(world, &["--name", "web", &image, "sleep", "1000"]);
    let request = json!({"make": "run", "spec": spec, "quiet": true, "id": id("a"), "report": true});
    let reported = reports(&mut supervisor(world, &request));
    assert_eq!(stages(&reported), ["plan", "image", "network", "launch", "boot", "configure", "start"]);
    let launched = reported.last().expect("a report");
    assert_eq!(launched["report"], "launched", "{reported:?}");
    let machine = &launched["machine"];
    assert_eq!((&machine["id"], &machine["name"]), (&json!(id("a")), &json!("web")));
    let shown = world.mimeo(["inspect", "web"]).ok().json()[0].clone();
    assert_eq!((&shown["State"]["Pid"], &shown["State"]["Status"]), (&machine["pid"], &json!("running")));
    world.mimeo(["exec", "web", "echo", "here"]).ok().printed("here\n");
    // A second machine of that id or name is refused, with a kind for programs.
    for (change, id, kind) in [(json!("web"), id("b"), "name_taken"), (json!("other"), id("a"), "id_taken")] {
        let mut again = request.clone();
        (again["spec"]["name"], again["id"]) = (change, json!(id));
        let reported = reports(&mut supervisor(world, &again));
        let failed = reported.last().expect("a report");
        assert_eq!((&failed["report"], &failed["kind"]), (&json!("failed"), &json!(kind)), "{failed}");
        assert_eq!((&failed["stage"], &failed["code"]), (&json!("plan"), &json!(125)), "{failed}");
    }
    world.mimeo(["rm", "-f", "web"]).ok();
    world.assert_empty();
});

#[test]
fn a_start_whose_requester_is_gone_is_undone() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let spec = spec(&world, &["--cold", &image, "sleep", "1000"]);
    let request = json!({"make": "run", "spec": spec, "quiet": true, "id": id("a"), "report": true});
    let mut child = supervisor(&world, &request);
    until("the guest boots", || {
        let record = fs::read_to_string(world.home().join("machines/aaaaaaaaaaaa/machine.json")).ok()?;
        let record: Value = serde_json::from_str(&record).ok()?;
        record["vmm"].is_object().then_some(())
    });
    drop(child.stdin.take());
    let reported = reports(&mut child);
    let failed = reported.last().expect("a report");
    assert_eq!((&failed["report"], &failed["kind"]), (&json!("failed"), &json!("cancelled")), "{reported:?}");
    child.wait().expect("ends");
    world.assert_empty();
}

#[test]
fn a_guest_that_fails_to_boot_leaves_its_console_in_the_report() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let spec = spec(&world, &["--cold", &image, "sleep", "1000"]);
    let request = json!({"make": "run", "spec": spec, "quiet": true, "id": id("a"), "report": true});
    let mut child = supervisor(&world, &request);
    let console = world.home().join("machines/aaaaaaaaaaaa/console.log");
    until("the kernel writes to the console", || (fs::metadata(&console).ok()?.len() > 0).then_some(()));
    let record = fs::read_to_string(world.home().join("machines/aaaaaaaaaaaa/machine.json")).expect("read");
    let record: Value = serde_json::from_str(&record).expect("a record");
    let vmm = record["vmm"]["pid"].as_i64().expect("a pid");
    let vmm = rustix::process::Pid::from_raw(vmm as i32).expect("a pid");
    rustix::process::kill_process(vmm, rustix::process::Signal::KILL).expect("killed");
    let reported = reports(&mut child);
    let failed = reported.last().expect("a report");
    assert_eq!((&failed["kind"], &failed["stage"]), (&json!("guest_silent"), &json!("boot")), "{failed}");
    assert!(!failed["console"].as_array().expect("lines").is_empty(), "{failed}");
    child.wait().expect("ends");
    world.assert_empty();
}

#[test]
fn a_machine_is_created_with_an_id_and_started_with_reports() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let spec = spec(&world, &["--name", "web", &image, "sleep", "1000"]);
    let create = json!({"make": "create", "spec": spec, "id": id("c"), "registry_login": null});
    let reported = reports(&mut supervisor(&world, &create));
    assert_eq!(stages(&reported), ["plan", "image"]);
    let created = reported.last().expect("a report");
    assert_eq!((&created["report"], &created["machine"]["id"]), (&json!("created"), &json!(id("c"))));
    assert_eq!(world.mimeo(["inspect", "web"]).ok().json()[0]["State"]["Status"], "created");
    let start = json!({"make": "start", "machine": id("c"), "client": null, "report": true});
    let reported = reports(&mut supervisor(&world, &start));
    assert_eq!(stages(&reported).last(), Some(&"start"), "{reported:?}");
    assert_eq!(reported.last().expect("a report")["report"], "launched");
    world.mimeo(["exec", "web", "echo", "here"]).ok().printed("here\n");
    assert_eq!(reports(&mut supervisor(&world, &start)), [json!({"report": "supervised"})]);
    world.mimeo(["rm", "-f", "web"]).ok();
    world.assert_empty();
}

#[test]
fn a_login_for_one_pull_is_stored_nowhere() {
    let world = World::new(User::Root);
    let registry = Registry::start_with_login();
    let login = format!("--dest-creds={}:{}", LOGIN.0, LOGIN.1);
    let layout = world.busybox();
    let image = registry.push_with(&[&login], &world.files().join("busybox"), "busybox");
    let mut spec = spec(&world, &[&layout, "sleep", "1000"]);
    spec["image"] = json!(image);
    let mut request = json!({"make": "run", "spec": spec, "quiet": true, "id": id("a"), "report": true});
    for login in [json!(null), json!({"username": LOGIN.0, "password": "another"})] {
        request["registry_login"] = login;
        let reported = reports(&mut supervisor(&world, &request));
        assert_eq!(reported.last().expect("a report")["kind"], "image_unauthorized", "{reported:?}");
    }
    request["registry_login"] = json!({"username": LOGIN.0, "password": LOGIN.1});
    let reported = reports(&mut supervisor(&world, &request));
    assert_eq!(reported.last().expect("a report")["report"], "launched", "{reported:?}");
    assert!(reported.iter().any(|report| report["report"] == "pull"), "{reported:?}");
    for dir in [world.home(), world.run_dir()] {
        // The password is in no file, as it is or as a login file would show it. Disks and memory have gigabytes.
        let mut find = world.program("find");
        find.arg(dir).args(["-type", "f", "-size", "-32M", "-exec", "grep", "-a", "-l"]);
        find.args(["-e", LOGIN.1, "-e", "bWU6c2U6Y3JldA", "{}", "+"]);
        assert_eq!(world.finish(find).stdout, "");
    }
    world.mimeo(["rm", "-f", &id("a")]).ok();
    world.assert_empty();
}

#[test]
fn a_request_that_is_not_one_is_refused() {
    let world = World::new(User::Root);
    for line in [json!({}), json!({"make": "coffee"}), json!({"make": "start", "machine": "../../etc"})] {
        let mut child = supervisor(&world, &line);
        drop(child.stdin.take());
        assert_eq!(child.wait().expect("ends").code(), Some(125), "{line}");
    }
    world.assert_empty();
}
