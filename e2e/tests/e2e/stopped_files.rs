//! `cp`, `diff` and `export`, on machines that run and on machines that do not.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use e2e::{Outcome, User, World, as_root_and_user, until};
use serde_json::json;

/// Changes the image's files in each way that there is.
const CHANGES: &str = "mkdir -p /new/sub && echo text > /new/sub/file && ln -s file /new/sub/link && rm /bin/md5sum && \
                       echo more >> /etc/passwd && rm -r /home && mkdir /home && echo own > /home/own; echo done";

/// Makes a sparse file whose export takes days.
const ENDLESS: &str = "dd if=/dev/null of=/endless bs=1 seek=1099511627776";

as_root_and_user!(files_of_a_stopped_machine_are_copied, |world| {
    let image = world.busybox();
    world.mimeo(["create", "--name", "job", &image, "cat", "/in/file"]).ok();
    let dir = world.files().join("in");
    world.file("in/file", "from the host\n");
    world.mimeo(["cp", &dir.to_string_lossy(), "job:/"]).ok();
    assert_eq!(world.mimeo(["ps", "-a", "--json"]).ok().json()[0]["State"], "created");
    world.mimeo(["start", "-a", "job"]).ok().printed("from the host\n");
    world.mimeo(["cp", "job:/in/file", "job:/copied"]).ok();
    world.mimeo(["cp", "job:/copied", "back"]).ok();
    assert_eq!(fs::read_to_string(world.files().join("back")).expect("copied"), "from the host\n");
    world.mimeo(["cp", "job:/none", "x"]).code(125).stderr_contains("no such file or directory");
    world.mimeo(["cp", "job:/in/file", "-"]).ok();
    world.wait_until_no_process();
    world.mimeo(["start", "-a", "job"]).ok().printed("from the host\n");
    world.mimeo(["rm", "job"]).ok();
    world.assert_empty();
});

#[test]
fn diff_lists_what_a_container_has_changed() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", &image, "sh", "-c", &format!("{CHANGES}; sleep 1000")]);
    until("the files are changed", || (world.mimeo(["logs", "web"]).stdout == "done\n").then_some(()));
    let expected = "C /bin\nD /bin/md5sum\nC /etc\nC /etc/passwd\nC /home\nD /home/app\nA /home/own\nA /new\n\
                    A /new/sub\nA /new/sub/file\nA /new/sub/link\n";
    world.mimeo(["diff", "web"]).ok().printed(expected);
    world.mimeo(["stop", "-t", "0", "web"]).ok();
    world.mimeo(["diff", "web"]).ok().printed(expected);
    let document = world.mimeo(["diff", "--format", "json", "web"]).ok().json();
    assert_eq!(document["deleted"], json!(["/bin/md5sum", "/home/app"]), "{document:#}");
    world.mimeo(["create", "--name", "fresh", &image, "true"]).ok();
    world.mimeo(["diff", "fresh"]).ok().printed("");
    world.mimeo(["diff", "none"]).code(125).stderr_contains("no such container");
}

#[test]
fn export_writes_the_container_without_what_is_mounted() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let shared = world.files().join("shared");
    world.file("shared/of-the-host", "x");
    let volume = format!("{}:/shared", shared.display());
    world.mimeo(["run", "--name", "job", "-v", &volume, &image, "sh", "-c", CHANGES]).ok();
    world.mimeo(["export", "-o", "job.tar", "job"]).ok();
    let listed = world.finish({
        let mut tar = world.program("tar");
        tar.args(["-t", "-f", "job.tar"]);
        tar
    });
    let names: Vec<_> = listed.stdout.lines().map(|name| name.trim_end_matches('/')).collect();
    for name in ["bin/busybox", "new/sub/file", "new/sub/link", "home/own", "shared", "proc"] {
        assert!(names.contains(&name), "{name}: {names:#?}");
    }
    for name in ["bin/md5sum", "home/app", "shared/of-the-host", "proc/self", "dev/null"] {
        assert!(!names.contains(&name), "{name}: {names:#?}");
    }
    world.mimeo(["export", "-o", "/no/such/dir/job.tar", "job"]).code(125).stderr_contains("cannot write");
    world.mimeo(["import", "job.tar", "again"]).ok();
    world.mimeo(["run", "--rm", "again", "cat", "/new/sub/link"]).ok().printed("text\n");
    assert!(!world.mimeo_on_terminal(&["export", "job"]).stdout.contains("new/sub"));
}

/// Replaces files by links, directories and pipes, and back, as fast as it can.
const CHURN: &str = "mkdir -p /busy; cd /busy; while :; do
    rm -rf a b c d; echo text > a; mkdir b; echo text > b/file; ln -s a c; echo text > d; touch e.$((i = i + 1)) && rm -f e.$((i - 20))
    rm -rf a b c d; ln -s /etc/passwd a; ln -s /etc b; mkfifo c; mkfifo d
done";

#[test]
fn the_files_of_a_busy_machine_are_read() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", &image, "sh", "-c", CHURN]);
    until("it is busy", || {
        world.mimeo(["exec", "web", "test", "-e", "/busy"]).stderr.is_empty().then_some(())
    });
    for round in 0..8 {
        world.mimeo(["export", "-o", "job.tar", "web"]).ok();
        let mut tar = world.program("tar");
        tar.args(["-t", "-f", "job.tar"]);
        assert!(world.finish(tar).ok().stdout.contains("bin/busybox"), "round {round}");
        world.mimeo(["cp", "web:/busy", "-"]).ok();
        let changes = world.mimeo(["diff", "web"]).ok().stdout;
        assert!(changes.contains("A /busy") && !changes.contains("b/passwd"), "{changes}");
        world.mimeo(["commit", "web", "busy"]).code(0);
    }
    world.mimeo(["run", "--rm", "busy", "test", "-d", "/busy"]).ok();
}

#[test]
fn an_interrupted_export_leaves_the_file_as_it_was() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start([
        "--name",
        "web",
        &image,
        "sh",
        "-c",
        &format!("{ENDLESS} && stat -c %s /endless; sleep 1000"),
    ]);
    until("the file is there", || (world.mimeo(["logs", "web"]).stdout == "1099511627776\n").then_some(()));
    let old = world.file("job.tar", "old");
    let interrupt = |signal| {
        let before = fs::read_dir(world.files()).expect("listed").count();
        let child = world.spawn(["export", "-o", "job.tar", "web"]);
        until("the archive is begun", || {
            (fs::read_dir(world.files()).expect("listed").count() > before).then_some(())
        });
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, signal).expect("signalled");
        Outcome::wait_for(child).code(128 + signal.as_raw()).stderr_contains("interrupted");
        assert_eq!(fs::read_dir(world.files()).expect("listed").count(), before);
        assert_eq!(fs::read_to_string(&old).expect("read"), "old");
    };
    interrupt(rustix::process::Signal::INT);
    world.mimeo(["stop", "-t", "0", "web"]).ok();
    interrupt(rustix::process::Signal::TERM);
    world.mimeo(["rm", "web"]).ok();
    world.assert_empty();
}

#[test]
fn export_writes_to_pipes_devices_and_links() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.mimeo(["run", "--name", "job", &image, "sh", "-c", CHANGES]).ok();
    let files = world.files();
    let listed = |archive: &str| {
        let mut tar = world.program("tar");
        tar.args(["-t", "-f", archive]);
        world.finish(tar).code(0).stdout
    };
    // The permissions of a file that is replaced stay.
    let target = world.file("target.tar", "old");
    fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).expect("set");
    std::os::unix::fs::symlink("target.tar", files.join("link.tar")).expect("linked");
    world.mimeo(["export", "-o", "link.tar", "job"]).ok();
    assert!(fs::symlink_metadata(files.join("link.tar")).expect("there").is_symlink());
    assert_eq!(fs::metadata(&target).expect("there").permissions().mode() & 0o777, 0o600);
    assert!(listed("target.tar").contains("new/sub/file"));
    rustix::fs::mkfifoat(rustix::fs::CWD, files.join("pipe"), 0o600.into()).expect("a pipe");
    let mut cat = world.program("sh");
    cat.args(["-c", "cat pipe >piped.tar"]);
    let mut cat = cat.spawn().expect("it starts");
    world.mimeo(["export", "-o", "pipe", "job"]).ok();
    assert!(cat.wait().expect("it ends").success());
    assert_eq!(listed("piped.tar"), listed("target.tar"));
    rustix::fs::mknodat(
        rustix::fs::CWD,
        files.join("null"),
        rustix::fs::FileType::CharacterDevice,
        0o600.into(),
        rustix::fs::makedev(1, 3),
    )
    .expect("a device");
    world.mimeo(["export", "-o", "null", "job"]).ok();
    assert!(!fs::metadata(files.join("null")).expect("there").is_file());
    world.mimeo(["export", "-o", ".", "job"]).code(125).stderr_contains("cannot write .");
}

#[test]
fn commands_wait_for_a_copy_that_takes_long() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.mimeo(["create", "--name", "job", &image, "sh", "-c", "cat /one/file; sleep 1000"]).ok();
    // The archive does not end before the writer does.
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let mut first = world.command(["cp", "-", "job:/"]).stdin(reader).spawn().expect("it starts");
    until("the copy has a guest", || (world.processes().len() > 1).then_some(()));
    let announced = "another command uses the machine's disk: waiting for it";
    let others = [&["cp", "job:/one/file", "copied"][..], &["cp", "job:/one", "two"], &["start", "job"]];
    let others = others.map(|args| {
        let mut command = world.command(args);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut stderr = std::io::BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        std::io::BufRead::read_line(&mut stderr, &mut line).expect("a line");
        assert!(line.contains(announced), "{line}");
        (child, stderr)
    });
    world.file("one/file", "text\n");
    let mut tar = world.program("tar");
    writer.write_all(&tar.args(["-c", "one"]).output().expect("an archive").stdout).expect("written");
    drop(writer);
    assert!(first.wait().expect("it ends").success());
    let [copy, directory, start] = others.map(|(child, mut rest)| {
        let output = child.wait_with_output().expect("it ends");
        let mut stderr = String::new();
        std::io::Read::read_to_string(&mut rest, &mut stderr).expect("read");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), stderr)
    });
    assert_eq!(
        (copy.0, directory.0, start.0),
        (Some(0), Some(0), Some(0)),
        "{copy:?} {directory:?} {start:?}"
    );
    for file in ["copied", "two/file"] {
        assert_eq!(fs::read_to_string(world.files().join(file)).expect("copied"), "text\n");
    }
    until("it has read the file", || (world.mimeo(["logs", "job"]).ok().stdout == "text\n").then_some(()));
    world.mimeo(["rm", "-f", "-t", "0", "job"]).ok();
    world.assert_empty();
}

#[test]
fn copies_do_not_wait_for_each_other() {
    let world = World::new(User::Root);
    let image = world.busybox();
    for name in ["one", "two"] {
        world.mimeo(["create", "--name", name, &image, "cat", "/etc/passwd"]).ok();
    }
    // Each needs both machines.
    let copies = [("one:/etc/passwd", "two:/from-one"), ("two:/etc/passwd", "one:/from-two")]
        .map(|(from, to)| world.spawn(["cp", from, to]));
    for copy in copies {
        Outcome::wait_for(copy).code(0);
    }
    world.mimeo(["cp", "one:/from-two", "."]).ok();
    world.mimeo(["cp", "two:/from-one", "."]).ok();
    // The first has the machine until the other one reads, which is at the other end of its pipe.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut holder = world.command(["cp", "-", "one:/"]).stdin(reader).spawn().expect("it starts");
    until("the copy has a guest", || (world.processes().len() > 1).then_some(()));
    let reason = format!("another command (pid {}) has not finished with it", holder.id());
    for args in [&["cp", "one:/etc/passwd", "-"][..], &["export", "one"]] {
        world.mimeo(args.iter().copied()).code(125).stderr_contains(&reason);
    }
    drop(writer);
    holder.wait().expect("it ends");
    world.mimeo(["cp", "one:/etc/passwd", "-"]).ok();
    world.mimeo(["rm", "one", "two"]).ok();
    world.assert_empty();
}

#[test]
fn a_copy_that_is_killed_leaves_the_machine_as_it_was() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world
        .mimeo([
            "run",
            "--name",
            "job",
            "-p",
            "127.0.0.1::80",
            &image,
            "sh",
            "-c",
            "echo kept > /kept; exit 3",
        ])
        .code(3);
    let before = world.mimeo(["inspect", "job"]).ok().stdout;
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = world.command(["cp", "-", "job:/"]);
    let mut copy = command.stdin(reader).spawn().expect("it starts");
    until("the copy has a guest", || (world.processes().len() > 1).then_some(()));
    world.mimeo(["ps", "-q"]).ok().printed("");
    copy.kill().expect("killed");
    copy.wait().expect("it ends");
    drop(writer);
    world.wait_until_no_process();
    until("it is swept", || (world.mimeo(["ps", "-q"]).code(0).stderr.is_empty()).then_some(()));
    let after = world.mimeo(["inspect", "job"]).ok().stdout;
    for key in ["\"Status\"", "\"ExitCode\"", "\"FinishedAt\"", "\"HostPort\""] {
        let line = |text: &str| text.lines().find(|line| line.contains(key)).map(str::to_owned);
        assert_eq!(line(&after), line(&before), "{key}");
    }
    world.mimeo(["cp", "job:/kept", "-"]).ok();
    world.mimeo(["rm", "job"]).ok();
    world.assert_empty();
}
