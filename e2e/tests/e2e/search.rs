//! `search`, and what shows and removes images as a whole: `image tree`, `image diff`, `system reset`.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use e2e::{Image, LOGIN, Layer, Registry, User, World};
use serde_json::json;

/// Pushes a small image under these names, `REPOSITORY:TAG`.
fn push_all(world: &World, registry: &Registry, options: &[&str], names: &[&str]) {
    let layout = world.files().join("layout");
    Image::busybox("layout").write_layout(&layout);
    for name in names {
        push(&layout, options, &format!("docker://{}/{name}", registry.address));
    }
}

fn push(layout: &Path, options: &[&str], name: &str) {
    let source = format!("oci:{}:latest", layout.display());
    let all = ["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"];
    let status = Command::new("skopeo").args(all).args(options).args([&source, name]).status();
    assert!(status.expect("skopeo starts").success());
}

#[test]
fn repositories_and_tags_are_found_in_a_registry() {
    let world = World::bare(User::Root);
    let registry = Registry::start();
    push_all(&world, &registry, &[], &["team/app:1", "team/app:2", "app:1", "other:1"]);
    let at = |path: &str| format!("{}/{path}", registry.address);
    let names = |args: &[&str]| {
        let all = [&["search", "--format", "{{.Name}}"], args].concat();
        world.mimeo(all).ok().stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&[&at("")]), [at("app"), at("other"), at("team/app")]);
    // The repository of that very name is the first.
    assert_eq!(names(&[&at("app")]), [at("app"), at("team/app")]);
    assert_eq!(names(&["--limit", "1", &at("app")]), [at("app")]);
    assert_eq!(names(&[&at("none")]), [""; 0]);
    assert_eq!(names(&["--filter", "is-official", &at("app")]), [""; 0]);
    assert_eq!(names(&["-f", "stars=0", "-f", "is-automated=false", &at("app")]).len(), 2);
    let table = world.mimeo(["search", "--compatible", &at("other")]).ok().stdout;
    let words: Vec<_> = table.split_whitespace().collect();
    assert_eq!(words, ["NAME", "DESCRIPTION", "STARS", "OFFICIAL", "AUTOMATED", &at("other"), "0"]);
    world.mimeo(["search", &at("none")]).ok().printed("");
    let document = world.mimeo(["search", "--format", "json", &at("other")]).ok().json();
    assert_eq!(document[0]["Name"], at("other"));
    let tags = world.mimeo(["search", "--list-tags", "--format", "json", &at("team/app:1")]).ok().json();
    let mut listed: Vec<_> =
        tags[0]["Tags"].as_array().expect("tags").iter().map(|tag| tag.as_str()).collect();
    listed.sort();
    assert_eq!(listed, [Some("1"), Some("2")]);
    let table = world.mimeo(["image", "search", "--list-tags", "--limit", "1", &at("team/app")]).ok().stdout;
    assert_eq!(table.lines().count(), 2, "{table}");
    for (args, reason) in [
        (&["--list-tags", &*at("none")][..], "replied 404"),
        (&["--list-tags", "--filter", "stars=0", &at("app")], "filters are not applicable"),
        (&["--filter", "bad=1", &at("app")], "invalid filter type \"bad=1\""),
        (&["--filter", "stars=x", &at("app")], "incorrect value"),
        (&["127.0.0.1:1/app"], "cannot be reached"),
        (&[""], "empty term"),
        (&["--list-tags", &at("BAD")], "is not an image name"),
    ] {
        world.mimeo([&["search"], args].concat()).code(125).stderr_contains(reason);
    }
}

#[test]
fn a_search_logs_in() {
    let world = World::bare(User::Root);
    let registry = Registry::start_with_login();
    let creds = format!("{}:{}", LOGIN.0, LOGIN.1);
    push_all(&world, &registry, &["--dest-creds", &creds], &["private/app:1"]);
    let term = format!("{}/app", registry.address);
    let search =
        |args: &[&str]| world.mimeo([&["search", "--format", "{{.Name}}"], args, &[&*term]].concat());
    search(&[]).code(125).stderr_contains("log in");
    search(&["--creds", "me:wrong"]).code(125).stderr_contains("log in");
    let found = format!("{}/private/app\n", registry.address);
    search(&["--creds", &creds]).ok().printed(&found);
    // me:se:cret
    let login = format!(r#"{{"auths": {{"{}": {{"auth": "bWU6c2U6Y3JldA=="}}}}}}"#, registry.address);
    world.file("login.json", login);
    search(&["--authfile", "login.json"]).ok().printed(&found);
}

/// Answers requests with documents, by the beginning of the path; returns the requests' first lines.
fn answer(listener: &TcpListener, documents: &[(&str, &str, String)]) -> Vec<String> {
    let mut lines = Vec::new();
    for _ in 0..documents.len() {
        let (stream, _) = listener.accept().expect("accepted");
        let mut reader = BufReader::new(stream.try_clone().expect("cloned"));
        let mut line = String::new();
        reader.read_line(&mut line).expect("a request");
        let mut header = String::new();
        while reader.read_line(&mut header).expect("a header") > 2 {
            header.clear();
        }
        let found = documents.iter().find(|(path, ..)| line.contains(path));
        let (head, body) = found.map_or(("404 Not Found", ""), |(_, head, body)| (*head, body.as_str()));
        let reply =
            format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        (&stream).write_all(reply.as_bytes()).expect("sent");
        lines.push(line);
    }
    lines
}

#[test]
fn the_search_of_version_1_and_pages_of_a_catalog_are_read() {
    let world = World::bare(User::Root);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let server = std::thread::spawn(move || {
        let results = json!({"results": [
            {"name": "first", "description": "x".repeat(60), "star_count": 7, "is_official": true, "is_automated": false},
            {"name": "second", "description": null, "star_count": 1, "is_official": false, "is_automated": true},
        ]});
        let first = answer(&listener, &[("GET /v1/search?q=a+b&n=25 ", "200 OK", results.to_string())]);
        let next = "200 OK\r\nlink: </v2/_catalog?last=a>; rel=\"next\"";
        let pages = [
            ("GET /v2/_catalog ", next, json!({"repositories": ["a"]}).to_string()),
            ("GET /v2/_catalog?last=a ", "200 OK", json!({"repositories": ["b"]}).to_string()),
        ];
        let rest = answer(&listener, &pages);
        let bad = answer(&listener, &[("GET /v2/_catalog ", "200 OK", "[]".to_owned())]);
        (first, rest, bad)
    });
    let format = "{{.Name}} {{.Stars}} {{.Official}} {{.Automated}} {{.Description}}";
    let found = world.mimeo(["search", "-f", "stars=1", "--format", format, &format!("{address}/a b")]).ok();
    found.printed(&format!("{address}/first 7 [OK]  {}...\n{address}/second 1  [OK] \n", "x".repeat(44)));
    let listed = world.mimeo(["search", "--format", "{{.Name}}", &format!("{address}/")]).ok();
    listed.printed(&format!("{address}/a\n{address}/b\n"));
    world.mimeo(["search", &format!("{address}/")]).code(125).stderr_contains("an unexpected document");
    server.join().expect("all requests came");
}

#[test]
fn an_images_layers_are_shown_and_compared() {
    let world = World::bare(User::Root);
    let base = Image::busybox("base");
    let top = Layer::default().file("etc/passwd", 0o644, "changed").file("new/sub/file", 0o600, "new").file(
        "bin/.wh.mv",
        0o600,
        "",
    );
    let built = Image::busybox("built").layer(top);
    let other = Image::busybox("other").layer(Layer::default().file("other", 0o644, "x"));
    let names = [("base", &base), ("built", &built), ("other", &other)].map(|(name, image)| {
        let layout = world.image(image);
        let id = world.mimeo(["pull", "-q", &layout]).ok().text().to_owned();
        world.mimeo(["tag", &id, name]).ok();
        id
    });
    let changes = "C /bin\nD /bin/mv\nC /etc\nC /etc/passwd\nA /new\nA /new/sub\nA /new/sub/file\n";
    world.mimeo(["image", "diff", "built"]).ok().printed(changes);
    world.mimeo(["diff", "built", "base"]).ok().printed(changes);
    world.mimeo(["diff", "base", "base"]).ok().printed("");
    let reverse = "C /bin\nA /bin/mv\nC /etc\nC /etc/passwd\nD /new\n";
    world.mimeo(["image", "diff", "base", "built"]).ok().printed(reverse);
    let document = world.mimeo(["image", "diff", "--format", "json", "built"]).ok().json();
    assert_eq!(document["deleted"], json!(["/bin/mv"]), "{document:#}");
    let all = world.mimeo(["image", "diff", "base"]).ok().stdout;
    assert!(all.starts_with("A /bin\nA /bin/") && all.contains("A /etc/passwd\n"), "{all}");
    let tree = |args: &[&str]| world.mimeo([&["image", "tree"], args].concat()).ok().stdout;
    let shown = tree(&["built"]);
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines[0], format!("Image ID: {}", &names[1][..12]), "{shown}");
    assert!(lines[1].contains("localhost/built:latest"), "{shown}");
    assert!(lines[4].starts_with("├── ID: ") && lines[4].contains("localhost/base:latest"), "{shown}");
    assert!(lines[5].starts_with("└── ID: ") && lines[5].contains("localhost/built:latest"), "{shown}");
    let shown = tree(&["--whatrequires", "base"]);
    let lines: Vec<_> = shown.lines().skip(4).collect();
    assert!(lines[0].starts_with("└── ID: ") && lines[0].contains("localhost/base:latest"), "{shown}");
    assert!(lines[1].starts_with("    ├── ID: ") && lines[2].starts_with("    └── ID: "), "{shown}");
    for (args, reason) in [
        (&["image", "tree", "none"][..], "none: image not known"),
        (&["image", "diff", "none"], "none: image not known"),
        (&["image", "diff", "base", "none"], "none: image not known"),
        (&["diff", "none"], "no such container"),
        (&["diff", "--format", "yaml", "base"], "invalid value"),
    ] {
        world.mimeo(args).code(125).stderr_contains(reason);
    }
    for command in [&["init", "x"][..], &["container", "init", "x"]] {
        world.mimeo(command).code(125).stderr_contains("a machine is set up when it is started");
    }
    // The blob of the topmost layer is lost.
    let blobs = world.home().join("images/blobs");
    let layer = world.mimeo(["image", "inspect", "--json", "other"]).ok().json();
    let digest = layer[0]["layers"][1]["digest"].as_str().expect("a layer").to_owned();
    let blob = walk(&blobs)
        .into_iter()
        .find(|path| digest.ends_with(&*path.file_name().expect("a name").to_string_lossy()));
    std::fs::remove_file(blob.expect("its blob")).expect("removed");
    world
        .mimeo(["image", "diff", "other"])
        .code(125)
        .stderr_contains("is not in the store: pull the image again");
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).expect("listed").flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn a_reset_removes_machines_snapshots_servers_and_images() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", &image, "sleep", "1000"]);
    world.start(["--rm", "--name", "temporary", &image, "sleep", "1000"]);
    world.mimeo(["create", "--name", "job", &image, "true"]).ok();
    world.snapshot("web", "saved");
    let mut server = world.serve(&["saved", "--pool", "1"]);
    world.mimeo(["snapshot", "run", "saved", "--name", "clone"]).ok();
    let refused = world.mimeo_with_input(["system", "reset"], b"n\n").code(0);
    assert!(refused.stderr.contains("- all machines, also those that run"), "{refused:?}");
    world.mimeo(["system", "reset"]).code(125).stderr_contains("use --force");
    assert_eq!(world.mimeo(["ps", "-q"]).ok().stdout.lines().count(), 3);
    world.mimeo_with_input(["system", "reset"], b"y\n").code(0).printed("");
    server.child.wait().expect("it has ended");
    world.mimeo(["images", "-q"]).ok().printed("");
    world.mimeo(["snapshot", "ls", "-q"]).ok().printed("");
    world.assert_empty();
    // The kernel is still there.
    world.mimeo(["system", "reset", "--force"]).ok().printed("");
    world.mimeo(["run", "--rm", &image, "echo", "again"]).code(0).printed("again\n");
}
