//! The command line as podman's users know it: templates, selections, forms of commands and values.

use std::fs;

use e2e::{User, World};

fn line(outcome: &str, at: usize) -> Vec<&str> {
    outcome
        .lines()
        .nth(at)
        .unwrap_or_default()
        .split("  ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .collect()
}

#[test]
fn templates_of_everyday_scripts_work() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let id = world.start(["--name", "web", "-l", "x=y", "-p", "127.0.0.1::80", &image, "sleep", "1000"]);
    let published = world.mimeo(["port", "web", "80"]).ok().text().to_owned();
    let port = published.rsplit(':').next().expect("a port");
    for (template, expected) in [
        ("{{.Config.Image}}", image.as_str()),
        ("{{index .Config.Labels \"x\"}}{{index .Config.Labels \"z\"}}", "y"),
        ("{{if .State.Running}}up{{else}}down{{end}}{{.State.Health.Status}}", "up"),
        ("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "10.201.0.2"),
        ("{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}", port),
        (
            "{{range $p, $c := .NetworkSettings.Ports}}{{$p}}={{(index $c 0).HostIp}}{{end}}",
            "80/tcp=127.0.0.1",
        ),
        ("{{json .Args}} {{join .Config.Cmd \",\"}} {{upper .Name}}", "[\"1000\"] sleep,1000 WEB"),
        ("{{.ID}}", &id),
        ("table {{.Name}}\\t{{.Driver}}", "web         qemu"),
    ] {
        world.mimeo(["inspect", "-f", template, "web"]).ok().printed(&format!("{expected}\n"));
    }
    for (bad, reason) in [
        ("{{.Nope}}", "there is no field \"Nope\""),
        ("{{range .Args}}", "an {{end}} is missing"),
        ("{{.Id", "unclosed action"),
        ("{{nope .Id}}", "nope"),
    ] {
        world.mimeo(["inspect", "-f", bad, "web"]).code(125).printed("").stderr_contains(reason);
    }
    world.mimeo(["image", "inspect", "-f", "{{.Id}} {{.RepoTags}} {{.Config.Cmd}} {{.Os}}", "busybox"]).ok();
}

#[test]
fn a_table_template_prints_a_heading_and_aligned_columns() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let id = world.start(["--name", "web", &image, "sleep", "1000"]);
    let table = |command: &[&str], template: &str| {
        world.mimeo(command.iter().copied().chain(["--format", template])).ok().stdout
    };
    let machines = "table {{.ID}}\\t{{.Names}}\\t{{.State}}";
    assert_eq!(
        table(&["ps"], machines),
        format!("CONTAINER ID  NAMES       STATE\n{}  web         running\n", &id[..12])
    );
    assert_eq!(table(&["ps", "--noheading"], machines), format!("{}  web         running\n", &id[..12]));
    assert_eq!(table(&["ps", "-f", "name=nobody"], machines), "CONTAINER ID  NAMES       STATE\n");
    assert_eq!(table(&["ps"], "{{range .}}<{{.Names}}>{{end}}"), "<web>\n");
    let images = table(&["images"], "table {{.Repository}}\\t{{.Tag}}\\t{{.ID}}");
    assert_eq!(line(&images, 0), ["REPOSITORY", "TAG", "IMAGE ID"]);
    assert_eq!(line(&images, 1)[..2], ["localhost/busybox", "latest"]);
    let stats =
        table(&["stats", "--no-stream"], "table {{.Name}}\\t{{.CPUPerc}}\\t{{.MemUsage}}\\t{{.PIDs}}");
    assert_eq!(line(&stats, 0), ["NAME", "CPU %", "MEM USAGE / LIMIT", "PIDS"]);
    assert_eq!(line(&stats, 1)[0], "web");
}

#[test]
fn ps_selects_and_sorts() {
    let world = World::new(User::Root);
    let image = world.busybox();
    for name in ["alpha", "beta", "gamma"] {
        world.mimeo(["run", "--name", name, &image, "sh", "-c", "exit 3"]).code(3);
    }
    let names = |args: &[&str]| {
        let all = ["ps", "-a", "--format", "{{.Names}}"].iter().chain(args);
        world.mimeo(all).ok().stdout.replace('\n', " ")
    };
    for (args, expected) in [
        (&["-n", "2"][..], "gamma beta "),
        (&["--latest"], "gamma "),
        (&["--sort", "names"], "alpha beta gamma "),
        (&["--sort", "created"], "alpha beta gamma "),
        (&["--filter", "before=beta"], "alpha "),
        (&["--filter", "since=beta"], "gamma "),
        (&["--filter", "name=^.*a$", "--filter", "label!=x", "--filter", "until=0s"], "gamma beta alpha "),
        (&["--filter", "network=rootless"], "gamma beta alpha "),
    ] {
        assert_eq!(names(args), expected, "{args:?}");
    }
    let sized = world.mimeo(["ps", "-a", "--size", "--noheading", "--format", "{{.Names}} {{.Size}}"]).ok();
    assert!(sized.stdout.lines().all(|line| line.contains("B (virtual ")), "{sized:#?}");
    world.mimeo(["ps", "--sort", "colour"]).code(125).stderr_contains("colour");
    world.mimeo(["ps", "--filter", "pod=x"]).code(125).stderr_contains("mimeo has no pods");
    world.mimeo(["ps", "--ns"]).code(125).stderr_contains("share no namespace");
    world.mimeo(["rm", "--filter", "name=^(alpha|beta)$"]).ok().printed("alpha\nbeta\n");
    world.mimeo(["rm", "--latest"]).ok().printed("gamma\n");
    world.mimeo(["rm", "--latest"]).code(125).stderr_contains("there is no machine");
}

#[test]
fn machines_are_selected_by_the_file_with_their_id() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let id = world.start(["--name", "web", &image, "sleep", "1000"]);
    let file = world.file("id", format!("{id}\n"));
    let file = file.to_str().expect("a path");
    world.mimeo(["pause", "--cidfile", file]).ok();
    world.mimeo(["unpause", "--filter", "status=paused"]).ok().printed("web\n");
    world.mimeo(["kill", "--cidfile", file, "--signal", "0"]).code(125);
    world.mimeo(["exec", "--latest", "echo", "-l", "-e"]).ok().printed("-l -e\n");
    world
        .mimeo(["run", "--rm", "--entrypoint", "echo", &image, "-c", "--rm", "-h"])
        .ok()
        .printed("-c --rm -h\n");
    world.mimeo(["exec", "--latest", "cat", "/etc/hostname"]).ok().printed(&format!("{}\n", &id[..12]));
    fs::write(file, "").expect("emptied");
    world.mimeo(["rm", "-f", "--cidfile", file]).code(125).stderr_contains("is empty");
    world.mimeo(["rm", "-f", "--all", "web"]).code(125);
    world.mimeo(["rm", "-f", "--filter", "name=web"]).ok();
}

#[test]
fn files_of_variables_and_labels_are_read_as_podman_reads_them() {
    let world =
        World::new(User::Root).with_variable("HOSTS_OWN", "1").with_variable("http_proxy", "http://proxy:1");
    let image = world.busybox();
    let env = world.file("env", "\u{feff}A=x y \n  B=z\t\n#C=1\nHOSTS_*\n");
    let env = env.to_str().expect("a path");
    let script = "echo \"[$A][$B][$C][$HOSTS_OWN][$http_proxy]\"";
    world
        .mimeo(["run", "--rm", "--env-file", env, &image, "sh", "-c", script])
        .ok()
        .printed("[x y ][z\t][][1][http://proxy:1]\n");
    let labels = world.file("labels", "a=b \n# no\nk\nc=1\n");
    let labels = labels.to_str().expect("a path");
    world.start([
        "--name",
        "web",
        "--label-file",
        labels,
        "-l",
        "c=2",
        "--annotation",
        "x=y",
        &image,
        "sleep",
        "1000",
    ]);
    world
        .mimeo(["inspect", "-f", "{{json .Config.Labels}} {{json .Config.Annotations}}", "web"])
        .ok()
        .printed("{\"a\":\"b \",\"c\":\"2\",\"k\":\"\"} {\"x\":\"y\"}\n");
    let merged = ["--env-merge", "PATH=${PATH}:/opt", "--unsetenv", "container", "--http-proxy=false"];
    let printed =
        world.mimeo(["run", "--rm"].iter().chain(&merged).chain(&[image.as_str(), "env"])).ok().stdout;
    assert!(printed.contains(":/bin:/opt\n") && !printed.contains("container="), "{printed}");
    assert!(!printed.contains("proxy"), "{printed}");
    let all = world
        .mimeo(["run", "--rm", "--env-host", "--unsetenv-all", "-e", "PATH=/bin", &image, "env"])
        .ok()
        .stdout;
    assert!(all.contains("HOSTS_OWN=1\n") && !all.contains("container="), "{all}");
    for bad in [
        &["--env-file", "/nope"][..],
        &["--env-merge", "A"],
        &["--annotation", "a"],
        &["--label-file", "/nope"],
    ] {
        world.mimeo(["run"].iter().chain(bad).chain(&[image.as_str(), "true"])).code(125).printed("");
    }
}

e2e::as_root_and_user!(a_machine_reaches_its_host_by_name, |world| {
    let image = world.busybox();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let script = format!(
        "for host in box host.containers.internal host.docker.internal; do nc $host {port} </dev/null; done"
    );
    let server = std::thread::spawn(move || {
        for _ in 0..3 {
            let (mut client, _) = listener.accept().expect("a client");
            std::io::Write::write_all(&mut client, b"hello\n").expect("written");
        }
    });
    let added = ["run", "--rm", "--add-host", "box:host-gateway"];
    world
        .mimeo(added.iter().chain(&[image.as_str(), "sh", "-c", &script]))
        .ok()
        .printed("hello\nhello\nhello\n");
    server.join().expect("served");
    world
        .mimeo(["run", "--network", "none", "--add-host", "box:host-gateway", &image, "true"])
        .code(125)
        .stderr_contains("the host is not reachable");
    let none = world.mimeo(["run", "--rm", "--network", "none", &image, "cat", "/etc/hosts"]).ok();
    assert!(!none.stdout.contains("host.containers.internal"), "{none:#?}");
});

#[test]
fn the_resolver_and_the_nic_are_as_requested() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let options = [
        "--dns-search",
        "a.example",
        "--dns-option",
        "ndots:2",
        "--mac-address",
        "92:d0:c6:0a:29:33",
        "-h",
        "box",
    ];
    let script = "cat /etc/resolv.conf /sys/class/net/eth0/address; hostname";
    let command = ["run", "--rm"].iter().chain(&options).copied().chain([image.as_str(), "sh", "-c", script]);
    world
        .mimeo(command)
        .ok()
        .printed("search a.example\nnameserver 10.201.0.5\noptions ndots:2\n92:d0:c6:0a:29:33\nbox\n");
    for (bad, reason) in [
        (&["--mac-address", "01:00:00:00:00:01"][..], "not the MAC address of a NIC"),
        (&["--mac-address", "92:d0:c6:0a:29:33", "--network", "none"], "there is no NIC"),
        (&["--ip", "10.202.0.9"], "only machines on the bridge"),
        (&["--ip", "10.9.0.9", "--network", "bridged"], "--ip takes one from 10.202.0.2"),
        (&["--dns-search", "a b"], "not a word"),
        (&["--expose", "80:80"], "publish it with -p"),
        (&["--network", "host"], "publish ports with -p"),
        (&["--network", "container:web"], "machines do not share a network stack"),
        (&["--network", "mynet"], "mimeo has no named networks"),
        (&["--userns", "keep-id"], "root of its own kernel"),
        (&["--device", "/dev/fuse"], "cannot be passed to a machine"),
        (&["--preserve-fds", "3"], "file descriptors of the host"),
    ] {
        let command = ["run"].iter().chain(bad).copied().chain([image.as_str(), "true"]);
        world.mimeo(command).code(125).printed("").stderr_contains(reason);
    }
    world.assert_empty();
}

#[test]
fn exposed_ports_are_published() {
    let world = World::new(User::Root);
    let exposed = serde_json::json!({"8000/tcp": {}, "9000/udp": {}});
    let image = world.image(&e2e::Image::busybox("web").config("ExposedPorts", exposed));
    let command = [
        "--name",
        "web",
        "-P",
        "--expose",
        "7000-7001",
        "-p",
        "127.0.0.1::9000/udp",
        &image,
        "sleep",
        "1000",
    ];
    world.start(command);
    let ports = "{{range $port, $hosts := .NetworkSettings.Ports}}{{$port}}={{len $hosts}} {{end}}{{.HostConfig.PublishAllPorts}}";
    let expected = "7000/tcp=1 7001/tcp=1 8000/tcp=1 9000/udp=1 true\n";
    world.mimeo(["inspect", "-f", ports, "web"]).ok().printed(expected);
    let all = world.mimeo(["port", "--all"]).ok().stdout;
    assert_eq!(all.lines().count(), 4, "{all}");
    let published = world.mimeo(["port", "web", "8000"]).ok().text().replace("0.0.0.0", "127.0.0.1");
    std::net::TcpStream::connect(&published).unwrap_or_else(|error| panic!("{published}: {error}"));
}

#[test]
fn files_name_the_machine_and_replace_ends_its_predecessor() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let [cid, pid] = ["cid", "pid"].map(|name| world.files().join(name).to_str().expect("a path").to_owned());
    let id = world.start(["--name", "web", "--cidfile", &cid, "--pidfile", &pid, &image, "sleep", "1000"]);
    assert_eq!(fs::read_to_string(&cid).expect("read"), id);
    let supervisor = world.mimeo(["inspect", "-f", "{{.State.Pid}}", "web"]).ok();
    assert_eq!(fs::read_to_string(&pid).expect("read"), supervisor.text());
    world.mimeo(["run", "--cidfile", &cid, &image, "true"]).code(125).stderr_contains("exists");
    fs::remove_file(&cid).expect("removed");
    world.mimeo(["run", "--cidfile", &cid, "--pull", "never", "nope", "true"]).code(125);
    assert!(!fs::exists(&cid).expect("a directory"), "the file of a machine that did not start");
    world.mimeo(["run", "--rm", "--name", "web", &image, "true"]).code(125).stderr_contains("web");
    let second = world.start(["--name", "web", "--replace", &image, "sleep", "1000"]);
    world.mimeo(["ps", "-a", "-q", "--no-trunc"]).ok().printed(&format!("{second}\n"));
    world.mimeo(["run", "--replace", &image, "true"]).code(125).stderr_contains("--name");
    // --rmi leaves an image that another machine uses.
    world.mimeo(["run", "--rmi", &image, "true"]).ok();
    world.mimeo(["image", "exists", "busybox"]).code(0);
    world.mimeo(["rm", "-f", "web"]).ok();
    world.mimeo(["run", "--rmi", "--cidfile", &cid, &image, "true"]).ok();
    assert_eq!(fs::read_to_string(&cid).expect("read").len(), 64);
    world.mimeo(["image", "exists", "busybox"]).code(1).printed("");
}

#[test]
fn podmans_long_forms_and_system_commands_work() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world
        .mimeo([
            "container",
            "run",
            "-d",
            "--name",
            "web",
            "--health-cmd",
            "test -e /ok",
            &image,
            "sleep",
            "1000",
        ])
        .ok();
    world.mimeo(["container", "exists", "web"]).code(0);
    world.mimeo(["container", "exists", "nobody"]).code(1).printed("");
    world.mimeo(["healthcheck", "run", "web"]).code(1).printed("unhealthy\n");
    world.mimeo(["container", "exec", "web", "touch", "/ok"]).ok();
    world.mimeo(["healthcheck", "run", "web"]).ok().printed("");
    world.mimeo(["container", "ls", "-a", "--format", "{{.Names}}"]).ok().printed("web\n");
    world.mimeo(["container", "inspect", "-f", "{{.Name}}", "web"]).ok().printed("web\n");
    world.mimeo(["container", "inspect", "busybox"]).code(125);
    world
        .mimeo(["info", "--format", "{{.Host.Arch}} {{.Store.ContainerStore.Running}}"])
        .ok()
        .printed("amd64 1\n");
    assert!(world.mimeo(["system", "info", "--json"]).ok().json()["store"]["graphRoot"].is_string());
    world.mimeo(["version", "--format", "{{.Client.Version}}"]).ok();
    let df = world.mimeo(["system", "df", "--format", "{{.Type}} {{.Total}} {{.Active}}"]).ok().stdout;
    assert!(df.starts_with("Images 1 1\nMachines 1 1\nLocal Volumes 0 0\nSnapshots "), "{df}");
    world.mimeo(["container", "rm", "-f", "web"]).ok();
    world.mimeo(["run", "--name", "job", &image, "true"]).ok();
    world.mimeo(["healthcheck", "run", "job"]).code(125).stderr_contains("not running");
    for command in ["image", "system"] {
        world.mimeo([command, "prune"]).code(125).stderr_contains("use --force");
        world.mimeo_with_input([command, "prune"], b"n\n").code(0).printed("");
    }
    let pruned = world.mimeo_with_input(["system", "prune", "--all"], b"y\n").code(0).stdout;
    assert!(pruned.contains("Deleted Machines\n") && pruned.contains("Deleted Images\n"), "{pruned}");
    world.mimeo(["ps", "-a", "-q"]).ok().printed("");
    world.mimeo(["pod", "ps"]).code(125).stderr_contains("mimeo has no pods");
}
