//! Named volumes, which outlive machines, and anonymous ones, which are removed with their machine.

use std::fs;

use e2e::{Image, Layer, Outcome, User, World, as_root_and_user, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Runs a shell's line in a new machine with these options.
fn shell(world: &World, image: &str, options: &[&str], line: &str) -> Outcome {
    world.mimeo([&["run", "--rm"], options, &[image, "sh", "-c", line]].concat())
}

fn inspect(world: &World, name: &str) -> Value {
    world.mimeo(["inspect", name]).ok().json()[0].clone()
}

/// An image that declares /var/thing, with a file in it.
fn declaring(world: &World) -> String {
    let layer = Layer::default().dir("var/thing", 0o755).file("var/thing/shipped", 0o644, "shipped\n");
    let volumes = json!({ "/var/thing": {} });
    world.image(&Image::busybox("declaring").layer(layer).config("Volumes", volumes))
}

as_root_and_user!(a_named_volume_outlives_its_machines, with_volumes, |world| {
    let image = world.busybox();
    shell(
        world,
        &image,
        &["-v", "data:/d"],
        "mkdir /d/sub; echo kept > /d/sub/file; ls -ldn /d | cut -c1-10",
    )
    .ok()
    .printed("drwxr-xr-x\n");
    world.mimeo(["volume", "exists", "data"]).code(0);
    let mount = "type=volume,source=data,target=/other/place";
    shell(world, &image, &["--mount", mount], "cat /other/place/sub/file").ok().printed("kept\n");
    world.mimeo(["volume", "ls"]).ok().printed("DRIVER      VOLUME NAME\nlocal       data\n");
    let volume = world.mimeo(["volume", "inspect", "data"]).ok().json()[0].clone();
    assert_eq!(
        (volume["Driver"].as_str(), volume["MountCount"].as_u64()),
        (Some("local"), Some(0)),
        "{volume}"
    );
    assert_eq!(volume["NeedsCopyUp"], false, "{volume}");
    let directory = volume["Mountpoint"].as_str().expect("a path");
    assert!(directory.starts_with(&*world.home().to_string_lossy()), "{directory}");
    world.mimeo(["volume", "rm", "data"]).ok().printed("data\n");
    assert!(!fs::exists(directory).expect("asked"));
    world.mimeo(["volume", "exists", "data"]).code(1);
});

as_root_and_user!(a_volume_in_use_is_refused_by_the_name_of_its_user, with_volumes, |world| {
    let image = world.busybox();
    world.start(["--name", "web", "-v", "data:/d", &image, "sh", "-c", "echo mine > /d/f; sync; sleep 1000"]);
    until("the file is written", || {
        (world.mimeo(["exec", "web", "cat", "/d/f"]).stdout == "mine\n").then_some(())
    });
    for options in [["-v", "data:/d"], ["-v", "data:/d:ro"]] {
        let refused = shell(world, &image, &options, "true").code(125);
        refused.stderr_contains("volume data is in use by machine web").printed("");
    }
    let volume = world.mimeo(["volume", "inspect", "data"]).ok().json()[0].clone();
    assert_eq!(volume["MountCount"], 1, "{volume}");
    world
        .mimeo(["volume", "rm", "data"])
        .code(2)
        .stderr_contains("volume data is being used by the following");
    world.mimeo(["stop", "-t", "1", "web"]).ok();
    shell(world, &image, &["-v", "data:/d"], "cat /d/f").ok().printed("mine\n");
});

#[test]
fn several_machines_read_a_volume_together() {
    let world = World::with_volumes(User::Root);
    let image = world.busybox();
    shell(&world, &image, &["-v", "data:/d"], "echo shared > /d/f").ok();
    for name in ["one", "two"] {
        world.start(["--name", name, "-v", "data:/d:ro", &image, "sleep", "1000"]);
    }
    for name in ["one", "two"] {
        world.mimeo(["exec", name, "cat", "/d/f"]).ok().printed("shared\n");
        world.mimeo(["exec", name, "touch", "/d/g"]).code(1).stderr_contains("Read-only file system");
    }
    shell(&world, &image, &["-v", "data:/d"], "true")
        .code(125)
        .stderr_contains("volume data is in use by machine ");
}

#[test]
fn a_new_volume_has_the_content_that_it_replaces() {
    let world = World::with_volumes(User::Root);
    let layer = Layer::default()
        .dir("srv", 0o755)
        .dir("srv/www", 0o1770)
        .owned("srv/www/page", 0o640, 1000, "a page\n")
        .link("srv/www/link", "page");
    let image = world.image(&Image::busybox("content").layer(layer));
    let list = "cd /srv/www; stat -c '%a %u %n' . page; cat link";
    shell(&world, &image, &["-v", "www:/srv/www"], list).ok().printed("1770 0 .\n640 1000 page\na page\n");
    // It is copied once, also where all of it has been removed.
    shell(&world, &image, &["-v", "www:/srv/www"], "rm /srv/www/*").ok();
    shell(&world, &image, &["-v", "www:/srv/www"], "ls -A /srv/www").ok().printed("");
    let list = "stat -c %a /srv/www; ls -A /srv/www";
    shell(&world, &image, &["-v", "bare:/srv/www:nocopy"], list).ok().printed("1770\n");
    // A first user that may only read gets it too.
    shell(&world, &image, &["-v", "read:/srv/www:ro"], "cat /srv/www/page").ok().printed("a page\n");
}

#[test]
fn the_containers_user_writes_to_a_new_volume() {
    let world = World::with_volumes(User::Root);
    let image = world.busybox();
    let line = "touch /not/there/f && stat -c %u:%g /not/there/f";
    for options in [["-v", "data:/not/there"], ["-v", "/not/there"]] {
        shell(&world, &image, &[&["-u", "app"], &options[..]].concat(), line).ok().printed("1000:1000\n");
    }
}

#[test]
fn options_of_a_mount_hold_in_the_guest() {
    let world = World::with_volumes(User::Root);
    let image = world.busybox();
    let line = "cp /bin/busybox /d; /d/busybox true; echo $?; grep ' /d ' /proc/mounts | cut -d' ' -f4";
    let flags = |options: &str| {
        let outcome = shell(&world, &image, &["-v", &format!("data:/d{options}")], line).code(0);
        outcome.stdout
    };
    let default = flags("");
    assert!(default.starts_with("0\nrw,nosuid,nodev,"), "{default}");
    let none = flags(":noexec");
    assert!(none.starts_with("126\nrw,nosuid,nodev,noexec,"), "{none}");
    let all = flags(":suid,dev,exec");
    assert!(all.starts_with("0\nrw,") && !all.contains("nosuid") && !all.contains("nodev"), "{all}");
}

as_root_and_user!(anonymous_volumes_live_as_long_as_their_machine, with_volumes, |world| {
    let image = declaring(world);
    let line =
        "echo x >> /anonymous/f; echo y >> /var/thing/f; cat /anonymous/f /var/thing/f /var/thing/shipped";
    let options = ["run", "--name", "job", "--read-only", "-v", "/anonymous"];
    world.mimeo([&options[..], &[&image, "sh", "-c", line]].concat()).ok().printed("x\ny\nshipped\n");
    world.mimeo(["start", "-a", "job"]).ok().printed("x\nx\ny\ny\nshipped\n");
    let changes = world.mimeo(["diff", "job"]).ok().stdout;
    assert!(!changes.contains("/f\n"), "{changes}");
    let archive = world.files().join("job.tar");
    world.mimeo(["export", "-o", &archive.to_string_lossy(), "job"]).ok();
    let mut tar = world.program("tar");
    tar.arg("-tf").arg(&archive);
    let listed = world.finish(tar).ok().stdout;
    assert!(!listed.contains("anonymous/f") && !listed.contains("var/thing/f"), "{listed}");
    world.mimeo(["commit", "-q", "job", "saved"]).code(0);
    shell(world, "saved", &[], "ls /var/thing; ls /anonymous").ok().printed("shipped\n");
    let targets =
        world.mimeo(["inspect", "-f", "{{range .Mounts}}{{.Type}}{{.Name}} {{.Destination}} {{end}}", "job"]);
    targets.ok().printed("volume /anonymous volume /var/thing \n");
    world.mimeo(["rm", "-v", "job"]).ok();
    world.mimeo(["volume", "ls", "-q"]).ok().printed("");
});

#[test]
fn volumes_of_an_image_are_what_the_option_says() {
    let world = World::with_volumes(User::Root);
    let image = declaring(&world);
    let kind = "grep ' /var/thing ' /proc/mounts | cut -d' ' -f3; cat /var/thing/shipped";
    for (mode, expected) in
        [("bind", "ext4\n"), ("anonymous", "ext4\n"), ("tmpfs", "tmpfs\n"), ("ignore", "")]
    {
        let outcome = shell(&world, &image, &["--image-volume", mode], kind).ok();
        outcome.printed(&format!("{expected}shipped\n"));
    }
    shell(&world, &image, &["--read-only", "--image-volume", "ignore"], "touch /var/thing/f")
        .code(1)
        .stderr_contains("Read-only file system");
    shell(&world, &image, &["-v", "named:/var/thing"], "echo new > /var/thing/f").ok();
    shell(&world, &world.busybox(), &["-v", "named:/d"], "ls /d").ok().printed("f\nshipped\n");
    shell(&world, &image, &["--image-volume", "shiny"], "true")
        .code(125)
        .stderr_contains("use bind, anonymous");
}

as_root_and_user!(volumes_are_mounted_below_each_other, with_volumes, |world| {
    let image = world.busybox();
    let source = world.file("app/main", "source\n").parent().expect("a directory").to_owned();
    let below = world.file("below/file", "from the host\n").parent().expect("a directory").to_owned();
    let app = format!("{}:/app", source.display());
    let line = "cat /app/main; echo built > /app/modules/out; cat /app/modules/out; echo y > /app/new";
    shell(world, &image, &["-v", &app, "-v", "/app/modules"], line).ok().printed("source\nbuilt\n");
    assert_eq!(fs::read_to_string(source.join("new")).expect("read"), "y\n");
    assert!(!source.join("modules/out").exists());
    let shared = format!("{}:/data/shared", below.display());
    let line = "cat /data/shared/file; echo mine > /data/own; echo theirs > /data/shared/new";
    shell(world, &image, &["-v", &shared, "-v", "data:/data"], line).ok().printed("from the host\n");
    assert_eq!(fs::read_to_string(below.join("new")).expect("read"), "theirs\n");
    shell(world, &image, &["-v", "data:/d"], "cat /d/own; ls /d/shared").ok().printed("mine\n");
});

#[test]
fn one_volume_has_two_mount_points() {
    let world = World::with_volumes(User::Root);
    let image = world.busybox();
    let line = "echo x > /a/f && cat /b/f && touch /b/g";
    shell(&world, &image, &["-v", "data:/a", "-v", "data:/b:ro"], line)
        .code(1)
        .stderr_contains("Read-only file system")
        .printed("x\n");
    let inside = ["-v", "outer:/o", "-v", "outer:/o/inner"];
    shell(&world, &image, &inside, "echo y > /o/inner/f; cat /o/f").ok().printed("y\n");
}

as_root_and_user!(a_volume_with_users_is_removed_only_with_them, with_volumes, |world| {
    let image = world.busybox();
    let id = world.mimeo(["create", "--name", "job", "-v", "data:/d", &image, "true"]).ok().text().to_owned();
    world.mimeo(["create", "--name", "other", "-v", "spare:/d", &image, "true"]).ok();
    world.mimeo(["volume", "create", "unused"]).ok();
    let expected = format!(
        "Error: volume data is being used by the following container(s): {id}: volume is being used\n"
    );
    assert_eq!(world.mimeo(["volume", "rm", "data"]).code(2).printed("").stderr, expected);
    world.mimeo(["volume", "ls", "-q", "--filter", "dangling=true"]).ok().printed("unused\n");
    world.mimeo(["volume", "prune", "-f"]).ok().printed("unused\n");
    world.mimeo(["volume", "rm", "-f", "data", "none"]).ok().printed("data\n");
    world.mimeo(["ps", "-a", "--format", "{{.Names}} {{.Mounts}}"]).ok().printed("other [/d]\n");
    world.mimeo(["ps", "-a", "-q", "--filter", "volume=none"]).ok().printed("");
    world.mimeo(["ps", "-a", "--filter", "volume=spare", "--format", "{{.Names}}"]).ok().printed("other\n");
    let df = world.mimeo(["system", "df", "--format", "{{.Type}} {{.Total}} {{.Active}}"]).ok().stdout;
    assert!(df.contains("\nLocal Volumes 1 1\n"), "{df}");
    let df = world.mimeo(["system", "df", "-v"]).ok().stdout;
    assert!(df.contains("\nVOLUME NAME  LINKS       SIZE\nspare        1 "), "{df}");
    let pruned = world.mimeo(["system", "prune", "-f"]).ok().stdout;
    assert!(pruned.contains("Deleted Machines\n") && !pruned.contains("Deleted Volumes"), "{pruned}");
    let pruned = world.mimeo(["system", "prune", "-f", "--volumes"]).ok().stdout;
    assert!(pruned.starts_with("Deleted Volumes\nspare\n"), "{pruned}");
    world
        .mimeo(["info", "--format", "{{.Store.VolumeStore.Number}} {{.Plugins.Volume}}"])
        .ok()
        .printed("0 [local]\n");
});

#[test]
fn force_removes_a_running_user_too() {
    let world = World::with_volumes(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", "-v", "data:/d", &image, "sleep", "1000"]);
    world.mimeo(["volume", "rm", "-f", "-t", "0", "data"]).ok().printed("data\n");
    world.mimeo(["ps", "-a", "-q"]).ok().printed("");
    world.mimeo(["volume", "ls"]).ok().printed("");
    world.assert_empty();
}

as_root_and_user!(files_are_copied_into_and_out_of_volumes, with_volumes, |world| {
    let image = declaring(world);
    let file = world.file("in", "from the host\n");
    let file = file.to_string_lossy();
    let line = "echo made > /d/made; sleep 1000";
    world.start(["--name", "web", "-v", "data:/d", &image, "sh", "-c", line]);
    let copy = |from: &str, to: &str| world.mimeo(["cp", from, to]).ok();
    copy(&file, "web:/d/running");
    copy(&file, "web:/var/thing/running");
    world
        .mimeo(["exec", "web", "cat", "/d/running", "/var/thing/running"])
        .ok()
        .printed("from the host\nfrom the host\n");
    world.mimeo(["stop", "-t", "0", "web"]).ok();
    copy(&file, "web:/d/stopped");
    copy(&file, "web:/var/thing/stopped");
    for path in ["/d/made", "/d/running", "/d/stopped", "/var/thing/running", "/var/thing/stopped"] {
        let expected = if path == "/d/made" { "made\n" } else { "from the host\n" };
        let out = world.files().join("out");
        copy(&format!("web:{path}"), &out.to_string_lossy());
        assert_eq!(fs::read_to_string(&out).expect("copied"), expected, "{path}");
    }
    shell(world, &image, &["-v", "data:/x"], "ls /x").ok().printed("made\nrunning\nstopped\n");
});

as_root_and_user!(a_killed_machine_leaves_a_usable_volume, with_volumes, |world| {
    let image = world.busybox();
    let line =
        "mkdir /d/dir; echo synced > /d/dir/f; sync; echo ready; while :; do echo $RANDOM > /d/busy; done";
    world.start(["--name", "web", "-v", "data:/d", &image, "sh", "-c", line]);
    until("the file is synced", || world.mimeo(["logs", "web"]).stdout.contains("ready").then_some(()));
    let supervisor = inspect(world, "web")["State"]["Pid"].as_i64().expect("a pid");
    kill_process(Pid::from_raw(supervisor as i32).expect("a process"), Signal::KILL)
        .expect("the process runs");
    // The first machine after it replays the journal, also for a container that only reads.
    let outcome = until("the lock is free", || {
        let outcome = shell(world, &image, &["-v", "data:/d:ro"], "cat /d/dir/f; touch /d/new");
        (!outcome.stderr.contains("is in use")).then_some(outcome)
    });
    outcome.code(1).printed("synced\n").stderr_contains("Read-only file system");
    world.mimeo(["rm", "web"]).ok();
    shell(world, &image, &["-v", "data:/d"], "touch /d/new && rm -r /d/dir").ok();
    shell(world, &image, &["-v", "data:/d:ro"], "ls /d/new /d/dir").code(1).printed("/d/new\n");
});

#[test]
fn two_machines_that_want_one_new_volume_do_not_share_it() {
    let world = World::with_volumes(User::Root);
    let image = world.busybox();
    let run = |name| {
        world.spawn([
            "run",
            "--name",
            name,
            "-v",
            "data:/d",
            &image,
            "sh",
            "-c",
            "echo $HOSTNAME >> /d/f; sleep 1000",
        ])
    };
    let children = [run("one"), run("two")];
    let states =
        || ["one", "two"].map(|name| world.mimeo(["inspect", "-f", "{{.State.Status}}", name]).stdout);
    let winner = until("one runs and the other is gone", || {
        let states = states();
        let winner = states.iter().position(|state| state == "running\n")?;
        (states[1 - winner] != "created\n" && states[1 - winner] != "running\n").then_some(winner)
    });
    let name = ["one", "two"][winner];
    let written = || world.mimeo(["exec", name, "cat", "/d/f"]);
    let lines = until("the file is written", || Some(written().stdout).filter(|text| !text.is_empty()));
    assert_eq!(lines.lines().count(), 1, "{lines}");
    world.mimeo(["rm", "-f", name]).ok();
    let mut outcomes = children.map(Outcome::wait_for);
    outcomes.rotate_left(1 - winner);
    let [loser, _] = outcomes;
    loser.code(125).stderr_contains(&format!("volume data is in use by machine {name}"));
}

#[test]
fn mounts_of_another_machine_are_taken_over() {
    let world = World::with_volumes(User::Root);
    let image = world.busybox();
    let host = world.file("host/f", "host\n").parent().expect("a directory").to_owned();
    let shared = format!("{}:/h:ro", host.display());
    world
        .mimeo([
            "run",
            "--name",
            "first",
            "-v",
            "data:/d",
            "-v",
            &shared,
            &image,
            "sh",
            "-c",
            "echo x > /d/f",
        ])
        .ok();
    let from = |options: &[&str], line| shell(&world, &image, options, line);
    from(&["--volumes-from", "first"], "cat /d/f /h/f; touch /d/g").ok().printed("x\nhost\n");
    from(&["--volumes-from", "first:ro"], "touch /d/h").code(1).stderr_contains("Read-only file system");
    from(&["--volumes-from", "first", "-v", "other:/d"], "ls /d").ok().printed("");
    let format =
        "{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.RW}};{{end}} {{.HostConfig.Binds}}";
    world.mimeo(["create", "--name", "second", "--volumes-from", "first:ro", &image, "true"]).ok();
    let shown = world.mimeo(["inspect", "-f", format, "second"]).ok().stdout;
    let expected = format!(
        "bind  /h false;volume data /d false; [{}:/h:ro,rprivate,rbind data:/d:ro,rprivate,nosuid,nodev,rbind]\n",
        host.display()
    );
    assert_eq!(shown, expected);
    world.mimeo(["create", "--name", "third", "-v", "/anonymous", &image, "true"]).ok();
    let refused = from(&["--volumes-from", "third"], "true").code(125);
    refused.stderr_contains("the volume at /anonymous is on the disk of machine third");
    let declared = declaring(&world);
    world.mimeo(["create", "--name", "fourth", &declared, "true"]).ok();
    from(&["--volumes-from", "fourth"], "true")
        .code(125)
        .stderr_contains("the volume at /var/thing is on the disk");
    from(&["--volumes-from", "fourth", "-v", "named:/var/thing"], "true").ok();
    from(&["--volumes-from", "none"], "true").code(125).stderr_contains("cannot use --volumes-from none: ");
}

as_root_and_user!(volumes_are_created_and_listed_as_podmans, with_volumes, |world| {
    let volume = |args: &[&str]| world.mimeo([&["volume"], args].concat());
    volume(&["ls"]).ok().printed("");
    volume(&["ls", "--format", "json"]).ok().printed("[]\n");
    volume(&["create", "-l", "tier=db,env=test", "-o", "size=100m", "data"]).ok().printed("data\n");
    let exists = "Error: volume with name data already exists: volume already exists\n";
    assert_eq!(volume(&["create", "data"]).code(125).printed("").stderr, exists);
    volume(&["create", "--ignore", "data"]).ok().printed("data\n");
    let random = volume(&["create", "-d", "local"]).ok().text().to_owned();
    assert!(random.len() == 64 && random.bytes().all(|byte| byte.is_ascii_hexdigit()), "{random}");
    volume(&["ls", "-q", "--filter", "label=tier=db"]).ok().printed("data\n");
    volume(&["ls", "--noheading", "--filter", "name=^dat"]).ok().printed("local       data\n");
    volume(&["ls", "--filter", "opt=size", "--format", "{{.Name}} {{.Labels}} {{.Options}} {{.Scope}}"])
        .ok()
        .printed("data map[env:test tier:db] map[size:100m] local\n");
    volume(&["inspect", "-f", "{{.Name}} {{.Size}} {{.NeedsCopyUp}} {{.Anonymous}}", "dat"])
        .ok()
        .printed("data 104857600 true false\n");
    let missing = volume(&["inspect", "data", "none"])
        .code(125)
        .stderr_contains("inspecting object: no such volume none");
    assert_eq!(missing.json()[0]["Name"], "data");
    volume(&["exists", "dat"]).code(1);
    world.mimeo(["inspect", "-f", "{{.Name}} {{.Driver}}", "data"]).ok().printed("data local\n");
    assert_eq!(world.mimeo(["inspect", "--type", "volume", "data"]).ok().json()[0]["Size"], 104_857_600);
    world.mimeo(["inspect", "--type", "image", "data"]).code(125).stderr_contains("no such object");
    for (args, reason) in [
        (&["create", "a/b"][..], "is not a valid name of a volume"),
        (&["create", "-l", "x", "-x"], "unexpected argument"),
        (&["create", "a", "b"], "unexpected argument"),
        (&["create", "-o", "size=1k", "small"], "the size of a volume must be between"),
        (&["create", "-o", "size=99t", "large"], "the size of a volume must be between"),
        (&["create", "-o", "type=nfs", "other"], "a named volume is a disk of mimeo's own"),
        (&["create", "-o", "colour=red", "other"], "is an unknown option of a volume"),
        (&["create", "-d", "nfs", "other"], "mimeo has no volume plugins"),
        (&["ls", "--filter", "foo=x"], "\"foo\" is an invalid volume filter"),
        (&["ls", "-q", "--format", "x"], "cannot be used with"),
        (&["inspect"], "required"),
        (&["rm"], "required"),
        (&["rm", "-a", "data"], "cannot be used with"),
        (&["rm", "-t", "5", "data"], "--force"),
        (&["mount", "data"], "cannot run `mimeo volume mount`: a volume is a disk"),
        (&["unmount", "data"], "cannot run `mimeo volume unmount`"),
        (&["reload"], "cannot run `mimeo volume reload`"),
        (&["prune"], "use --force"),
    ] {
        volume(args).code(125).stderr_contains(reason).printed("");
    }
    volume(&["rm", "none"]).code(1).stderr_contains("no volume with name \"none\" found: no such volume");
    world
        .mimeo_with_input(["volume", "prune"], b"n\n")
        .code(0)
        .printed("")
        .stderr_contains("will be removed:\n");
    volume(&["rm", "--all"]).ok();
    volume(&["ls", "-q"]).ok().printed("");
});

#[test]
fn the_size_of_a_volume_is_that_of_its_filesystem() {
    let world = World::with_volumes(User::Root);
    let image = world.busybox();
    world.mimeo(["volume", "create", "-o", "size=64m", "small"]).ok();
    let line = "dd if=/dev/zero of=/d/f bs=1M count=80 2>/dev/null; [ $? = 1 ] && rm /d/f && echo x > /d/g && cat /d/g";
    shell(&world, &image, &["-v", "small:/d"], line).ok().printed("x\n");
    let usage =
        world.mimeo(["volume", "inspect", "-f", "{{.DiskUsage}}", "small"]).ok().text().parse::<u64>();
    assert!(usage.is_ok_and(|bytes| bytes < 100 << 20));
}

#[test]
fn bad_mounts_are_refused_before_anything_is_created() {
    let world = World::bare(User::Root);
    for (options, reason) in [
        (["-v", "a b:/d"], "is not a valid name of a volume"),
        (["-v", "src/app:/d"], "a directory of the host begins with / or ."),
        (["-v", "data:d"], "has no absolute path in the container"),
        (["-v", "name"], "has no absolute path in the container"),
        (["-v", ":/d"], "names neither a directory of the host nor a volume"),
        (["-v", "data:/"], "cannot replace the container's root"),
        (["-v", "data:/d:ro,rw"], "has both"),
        (["-v", "data:/d:U"], "cannot have the option \"U\""),
        (["-v", "data:/d:O"], "cannot have the option \"O\""),
        (["-v", "data:/d:idmap"], "cannot have the option \"idmap\""),
        (["-v", "data:/d:shiny"], "has an unknown option"),
        (["-v", "/tmp:/d:noexec"], "cannot have the option \"noexec\""),
        (["--mount", "type=volume,source=data"], "has no absolute target"),
        (["--mount", "type=volume,source=/tmp,target=/d"], "is not a valid name of a volume"),
        (["--mount", "type=volume,source=data,target=/d,volume-opt=size=1g"], "mimeo volume create"),
        (["--volume-driver", "nfs"], "mimeo has no volume plugins"),
        (["--volumes-from", "none"], "cannot use --volumes-from none"),
    ] {
        let outcome = world.mimeo([&["run", "--rm"], &options[..], &["none"]].concat()).code(125);
        outcome.stderr_contains(reason);
    }
    world.mimeo(["volume", "ls"]).ok().printed("");
}

as_root_and_user!(volumes_are_exported_and_imported, with_volumes, |world| {
    let image = world.busybox();
    world.mimeo(["volume", "create", "empty"]).ok();
    let fill =
        "mkdir -m 750 /v/sub && echo text > /v/sub/file && chown -R 7:8 /v/sub && ln -s sub/file /v/link";
    shell(world, &image, &["-v", "data:/v"], fill).code(0);
    let names = |archive: &str| {
        let mut tar = world.program("tar");
        tar.args(["-t", "-f", archive]);
        let listed = world.finish(tar).ok().stdout;
        let mut names: Vec<_> = listed.lines().map(|name| name.trim_end_matches('/').to_owned()).collect();
        names.sort();
        names
    };
    // Neither is used by a machine.
    world.mimeo(["volume", "export", "-o", "empty.tar", "empty"]).ok();
    assert_eq!(names("empty.tar"), [""; 0]);
    // That was not its first use, in which it gets what it replaces.
    shell(world, &image, &["-v", "empty:/etc"], "test -s /etc/passwd").ok();
    world.mimeo(["volume", "export", "--output", "data.tar", "data"]).ok();
    assert_eq!(names("data.tar"), [".", "link", "sub", "sub/file"]);
    let mut gzip = world.program("gzip");
    gzip.args(["-k", "data.tar"]);
    world.finish(gzip).ok();
    for (volume, archive) in [("plain", "data.tar"), ("packed", "data.tar.gz")] {
        world.mimeo(["volume", "create", volume]).ok();
        world.mimeo(["volume", "import", volume, archive]).ok();
        let mounted = format!("{volume}:/v");
        let shown = shell(world, &image, &["-v", &mounted], "cat /v/link; stat -c '%a %u %g' /v/sub");
        shown.ok().printed("text\n750 7 8\n");
    }
    assert_eq!(world.mimeo(["ps", "-a", "-q"]).ok().stdout, "");
    // A machine uses it: its guest reads and writes.
    world.start(["--name", "user", "-v", "plain:/mounted/here", &image, "sleep", "1000"]);
    world.mimeo(["volume", "export", "-o", "used.tar", "plain"]).ok();
    assert_eq!(names("used.tar"), names("data.tar"));
    world.sh("user", "rm -r /mounted/here/sub; echo new > /mounted/here/new");
    let archive = fs::read(world.files().join("data.tar")).expect("read");
    world.mimeo_with_input(["volume", "import", "plain", "-"], &archive).ok();
    assert_eq!(world.sh("user", "cat /mounted/here/link /mounted/here/new"), "text\nnew");
    world.mimeo(["volume", "export", "none"]).code(125).stderr_contains("no such volume");
    world.mimeo(["volume", "import", "none", "data.tar"]).code(125).stderr_contains("no such volume");
    world.mimeo(["volume", "import", "plain", "none.tar"]).code(125).stderr_contains("cannot read none.tar");
    world.file(
        "bad.tar",
        "this is not an archive, although it is longer than one block of an archive would be. ".repeat(8),
    );
    world.mimeo(["volume", "import", "empty", "bad.tar"]).code(125).stderr_contains("archive");
    world.assert_removes_all();
});

#[test]
fn a_machine_that_starts_again_has_its_volume() {
    let world = World::with_volumes(User::Root);
    let image = world.busybox();
    let job = "echo run >> /data/log; exit 3";
    let args = ["--name", "job", "--restart", "on-failure:2", "-v", "data:/data", &image, "sh", "-c", job];
    world.start(args);
    until("it has given up", || {
        world.mimeo(["ps", "-a", "--format", "{{.Status}}"]).stdout.starts_with("Exited").then_some(())
    });
    let log = ["run", "--rm", "-v", "data:/data", &image, "cat", "/data/log"];
    world.mimeo(log).ok().printed("run\nrun\nrun\n");
    world.assert_removes_all();
}

#[test]
fn a_volume_at_etc_has_no_files_of_the_machine() {
    let world = World::with_volumes(User::Root);
    let image = world.busybox();
    let line = "cat /etc/hostname; grep -c . /etc/resolv.conf; echo own > /etc/own";
    shell(&world, &image, &["--hostname", "first", "-v", "data:/etc"], line).ok().printed("first\n1\n");
    let line = "cat /etc/hostname /etc/own; test -s /etc/passwd";
    shell(&world, &image, &["--hostname", "second", "-v", "data:/etc"], line).ok().printed("second\nown\n");
    let line = "cat /d/hostname /d/hosts /d/machine-id";
    shell(&world, &image, &["-v", "data:/d"], line).ok().printed("");
}

#[test]
fn odd_sizes_and_paths_are_usable() {
    let world = World::with_volumes(User::Root);
    let image = world.busybox();
    world.mimeo(["volume", "create", "-o", "size=1000000001", "odd"]).ok();
    world.start(["--name", "web", "-v", "odd:/my data", &image, "sleep", "1000"]);
    world.sh("web", "echo text > '/my data/file'");
    world.snapshot("web", "saved");
    world.mimeo(["rm", "-f", "web"]).ok();
    world.mimeo(["snapshot", "run", "saved", "--name", "clone"]).ok();
    assert_eq!(world.sh("clone", "cat '/my data/file'"), "text");
    shell(&world, &image, &["-v", "odd:/my data"], "echo more >> '/my data/file'").ok();
    // It was unmounted, so several machines can read it.
    for name in ["one", "two"] {
        world.start(["--name", name, "-v", "odd:/my data:ro", &image, "sleep", "1000"]);
    }
    assert_eq!(world.sh("two", "cat '/my data/file'"), "text\nmore");
    world.mimeo(["volume", "create", "-o", "size=15t", "huge"]).code(125).stderr_contains("must be between");
    let mounts: Vec<_> = (0..13).map(|index| format!("v{index}:/v{index}")).collect();
    let options: Vec<_> = mounts.iter().flat_map(|mount| ["-v", mount]).collect();
    shell(&world, &image, &options, "true").code(125).stderr_contains("12 named volumes at most, not 13");
    let tmpfs = ["--tmpfs", "/var/thing/tmp"];
    shell(&world, &declaring(&world), &tmpfs, "true").code(125).stderr_contains("which would hide it");
    world.assert_removes_all();
}
